"""Live progress of a run: one moving line on a terminal, plain heartbeat lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from modelworks.telemetry.events import (
    Event,
    LineEnded,
    Note,
    Planned,
    RunEnded,
    RunStarted,
    StepEnded,
    StepRetried,
    StepStarted,
)
from modelworks.telemetry.ledger import Bill, Prices, bill_of

if TYPE_CHECKING:
    from rich.live import Live

HEARTBEAT_S = 10.0


class Progress:
    """An event sink that tells a person how far the work is, how long it takes and what it cost so far.

    Use it as a context manager around the run.

    Args:
        stream: Where to write; standard error by default.
        prices: Turns usage into money.
        heartbeat_s: Seconds between two lines where there is no terminal.
        monotonic: Source of time.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        prices: Prices | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._prices = prices or Prices()
        self._heartbeat_s = heartbeat_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._start = monotonic()
        self._last_line = monotonic()
        self._planned: Planned | None = None
        self._bill = Bill()
        self._verdicts: Counter[str] = Counter()
        self._steps: Counter[str] = Counter()
        self._running: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                self.line(),
                console=Console(file=self._stream),
                refresh_per_second=4,
                transient=True,
                get_renderable=self.line,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            text = self._take(event)
            now = self._monotonic()
            due = now - self._last_line >= self._heartbeat_s or isinstance(event, RunEnded)
            if self._live is None and due:
                self._last_line = now
                text = [*text, self._line()]
        for line in text:
            self._say(line)

    @property
    def bill(self) -> Bill:
        """What the steps that ended so far used."""
        return self._bill

    def line(self) -> str:
        """Return the state as one line."""
        with self._lock:
            return self._line()

    def left_s(self) -> float | None:
        """Return the expected seconds that are left, or ``None`` while there is no plan.

        Lines that ended set the pace; before the first has ended, the plan does.
        """
        if self._planned is None:
            return None
        passed = self._monotonic() - self._start
        ended = sum(self._verdicts.values())
        if ended:
            return passed / ended * max(0, self._planned.lines - ended)
        return max(0.0, self._planned.wall_s - passed)

    def _take(self, event: Event) -> list[str]:
        match event:
            case RunStarted():
                return [f"run {event.run} " + ("started" if event.token == 1 else "resumed")]
            case Planned():
                self._planned = event
                return [
                    f"plan: {event.lines} tasks, about {duration(event.wall_s)} and {event.cpu_s:.0f} CPU-seconds"
                ]
            case StepStarted():
                self._running[event.key] = f"{event.step} {event.label}".strip()
            case StepRetried():
                return [f"{event.label} {event.step}: try {event.attempt} failed, trying again"]
            case StepEnded():
                self._running.pop(event.key, None)
                self._steps["memoised" if event.memoised else event.status] += 1
                self._bill = self._bill + bill_of(event.usage)
            case LineEnded():
                self._verdicts[event.verdict] += 1
                return [f"{event.label}: {event.verdict}" + (f" ({event.cause})" if event.cause else "")]
            case Note():
                return [event.text if event.level == "info" else f"{event.level}: {event.text}"]
            case RunEnded():
                return [f"run {event.run} {event.status}" + (f": {event.reason}" if event.reason else "")]
        return []

    def _line(self) -> str:
        passed = self._monotonic() - self._start
        parts = []
        if self._planned is not None:
            parts.append(f"{sum(self._verdicts.values())}/{self._planned.lines} tasks")
        parts += [f"{count} {verdict}" for verdict, count in sorted(self._verdicts.items())]
        parts.append(f"{sum(self._steps.values())} steps ({self._steps['memoised']} reused)")
        parts.append(f"{duration(passed)} so far")
        left = self.left_s()
        if left is not None:
            parts.append(f"{duration(left)} left")
        money = self._bill.money(self._prices)
        parts.append(f"{self._bill.cpu_s:.1f} CPU-s, {money:.4f} {self._prices.currency}")
        if self._running:
            parts.append("now: " + ", ".join(list(self._running.values())[:2]))
        return " | ".join(parts)

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """Return ``42 s``, ``3 min 5 s`` or ``2 h 7 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
