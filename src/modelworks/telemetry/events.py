"""What happens, as typed values: sent to a callback, kept as JSON lines, shown by ``progress``."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from modelworks.core.job import Usage


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        at: Wall-clock seconds since 1970.
        run: Run it belongs to.
    """

    name: ClassVar[str] = "event"

    at: float
    run: str

    def to_json(self) -> dict[str, Any]:
        """Return the event as plain data with its name under ``event``."""
        return {"event": self.name} | asdict(self)


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run began, or was taken up again (``token`` above 1)."""

    name: ClassVar[str] = "run_started"

    kind: str
    token: int


@dataclass(frozen=True, kw_only=True)
class StepStarted(Event):
    """An attempt at a step began."""

    name: ClassVar[str] = "step_started"

    step: str
    label: str
    key: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class StepEnded(Event):
    """A step call ended for a label.

    Attributes:
        step, label, key: Which call.
        status: ``done``, ``failed``, ``skipped`` or ``cancelled``.
        memoised: The result was there already; nothing ran.
        usage: What all attempts of this call used in this run; empty for calls that shared another's work.
        error: ``ModelworksError.to_json()``, or ``None``.
    """

    name: ClassVar[str] = "step_ended"

    step: str
    label: str
    key: str
    status: str
    memoised: bool = False
    usage: Usage = field(default_factory=Usage)
    error: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class StepRetried(Event):
    """An attempt failed in a way that may pass; the step runs again."""

    name: ClassVar[str] = "step_retried"

    step: str
    label: str
    key: str
    attempt: int
    error: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LineEnded(Event):
    """A task of an order came to its verdict."""

    name: ClassVar[str] = "line_ended"

    label: str
    verdict: str
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """What a run is expected to take; may be sent again when more is known.

    Attributes:
        lines: Tasks.
        cpu_s: CPU-seconds of all of them.
        wall_s: Elapsed seconds.
    """

    name: ClassVar[str] = "planned"

    lines: int
    cpu_s: float
    wall_s: float


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """A sentence for people.

    Attributes:
        text: The sentence.
        level: ``info`` or ``warning``.
    """

    name: ClassVar[str] = "note"

    text: str
    level: str = "info"


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """A run ended."""

    name: ClassVar[str] = "run_ended"

    status: str
    reason: str = ""


EventSink = Callable[[Event], None]


class JsonLines:
    """Appends events to a file, one JSON object a line.

    A full disk must not stop the work: the file is given up, once, with the reason in ``stopped``.

    Args:
        path: File; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.stopped: str | None = None
        self._lock = threading.Lock()
        self._stream = path.open("a", encoding="utf-8", buffering=1)

    def __call__(self, event: Event) -> None:
        """Write one event."""
        line = json.dumps(event.to_json(), ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock:
            if self.stopped is not None or self._stream.closed:
                return
            try:
                self._stream.write(line)
            except OSError as error:
                self.stopped = str(error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            try:
                self._stream.close()
            except OSError as error:
                self.stopped = str(error)


def fan_out(*sinks: EventSink) -> EventSink:
    """Return a sink that hands every event to all ``sinks``."""

    def send(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return send
