"""Where a model runs: on the CPU, or on a CUDA device where a measured run there is faster and the answers hold.

On the CPU, on how many threads is measured next (``thread_choice``)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelworks.compute.runtime import GraphSession, cuda_lacking
from modelworks.core.errors import ModelworksError, UsageError
from modelworks.core.signature import Signature
from modelworks.packaging.golden import Answering, answer_rows, differences
from modelworks.serving.curve import LatencyCurve
from modelworks.serving.tensors import Array, same_values
from modelworks.serving.thread_choice import ThreadChoice

_log = logging.getLogger("modelworks.serving")

GAIN = 1.25
"""How many times faster a run on the device must be to be worth its memory and its own ways to fail."""

Make = Callable[[str, int], GraphSession]
Measure = Callable[[GraphSession], LatencyCurve]
Replay = Callable[[GraphSession], str]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A session on the device that was chosen for it.

    Attributes:
        session: The loaded graph.
        curve: Its latency there, measured now or when the digest was first placed.
        fresh: Whether it was measured now, so that the session is warm.
        note: Why the device and the threads were chosen.
    """

    session: GraphSession
    curve: LatencyCurve
    fresh: bool
    note: str


class Devices:
    """Chooses a device and threads per graph, once per digest and process; may be called from any thread.

    Args:
        wanted: ``auto`` measures, ``cpu`` and ``cuda`` do not.
        lacking: Says why there is no CUDA device; empty if there is one.
        threads: Chooses the threads of a run on the CPU; one by default.

    Raises:
        UsageError: ``cuda`` is wanted and cannot be had.
    """

    def __init__(
        self,
        wanted: str = "cpu",
        *,
        lacking: Callable[[], str] = cuda_lacking,
        threads: ThreadChoice | None = None,
    ) -> None:
        self.wanted = wanted
        self.missing = lacking() if wanted != "cpu" else "the CPU was asked for"
        if wanted == "cuda" and self.missing:
            raise UsageError(
                f"No model can run on a CUDA device: {self.missing}.",
                code="MW1394",
                hint="mw serve --device cpu, or install onnxruntime-gpu with its CUDA libraries",
            )
        self._threads = threads if threads is not None else ThreadChoice()
        self._known: dict[str, tuple[str, int, LatencyCurve, str]] = {}
        self._lock = threading.Lock()

    def place(
        self,
        digest: str,
        make: Make,
        measure: Measure,
        replay: Replay,
        feeds: Mapping[str, Array] | None = None,
    ) -> Placed:
        """Return a session on the device for the graph.

        Args:
            digest: Names the graph.
            make: Loads it on ``cpu`` or ``cuda``, with a number of threads a run.
            measure: Measures a session.
            replay: Answers golden examples with a session; returns what differs, empty if nothing does.
            feeds: One row, to choose threads by; ``None`` leaves them as they are.
        """
        known = self._known.get(digest)
        if known is not None:
            device, threads, curve, note = known
            return Placed(session=make(device, threads), curve=curve.copy(), fresh=False, note=note)
        if self.missing:
            session = make("cpu", self._threads.first)
            placed = Placed(session=session, curve=measure(session), fresh=True, note=self.missing)
        else:
            placed = self._compare(make, measure, replay)
        if placed.session.device == "cpu":
            placed = self._thread(placed, make, measure, replay, feeds)
        with self._lock:
            self._known[digest] = (
                placed.session.device,
                placed.session.threads,
                placed.curve.copy(),
                placed.note,
            )
        return placed

    def _thread(
        self, placed: Placed, make: Make, measure: Measure, replay: Replay, feeds: Mapping[str, Array] | None
    ) -> Placed:
        chosen = self._threads.choose(
            placed.session, placed.curve, feeds, lambda threads: make("cpu", threads), measure, replay
        )
        note = "; ".join(part for part in (placed.note, chosen.note) if part)
        return replace(placed, session=chosen.session, curve=chosen.curve, note=note)

    def _compare(self, make: Make, measure: Measure, replay: Replay) -> Placed:
        cause, device, curve = "", None, None
        try:
            device = make("cuda", 1)
            cause = "the device did not take the graph" if device.device != "cuda" else replay(device)
            curve = measure(device) if not cause else None
        except ModelworksError as error:
            cause = error.message
        except Exception as error:
            # ONNX Runtime's own: out of device memory, a kernel that refuses the shapes.
            cause = f"the device fails: {str(error).splitlines()[0][:200]}"
        if device is not None and curve is not None and self.wanted == "cuda":
            return Placed(session=device, curve=curve, fresh=True, note="asked for")
        session = make("cpu", self._threads.first)
        known = measure(session)
        if device is None or curve is None:
            _log.warning("a model is served from the CPU: on the CUDA device %s", cause)
            return Placed(session=session, curve=known, fresh=True, note=f"on the CUDA device {cause}")
        faster, note = compare(known, curve)
        if faster:
            return Placed(session=device, curve=curve, fresh=True, note=note)
        return Placed(session=session, curve=known, fresh=True, note=note)


def compare(cpu: LatencyCurve, device: LatencyCurve) -> tuple[bool, str]:
    """Say whether a device is the better place, and why.

    Each is judged at the batch it would gather itself (its ``best_rows``): the device must take ``GAIN`` times less
    per row there, and a lone row must not take ``GAIN`` times more.
    """
    per_row = [curve.estimate(curve.best_rows) / curve.best_rows for curve in (cpu, device)]
    alone = [curve.estimate(1) for curve in (cpu, device)]
    if not all((*per_row, *alone)):
        return False, "nothing could be measured"
    note = (
        f"a row took {per_row[0] * 1e3:.3g} ms in batches of {cpu.best_rows} on the CPU, {per_row[1] * 1e3:.3g} ms "
        f"in batches of {device.best_rows} on the CUDA device; alone {alone[0] * 1e3:.3g} and {alone[1] * 1e3:.3g} ms"
    )
    return per_row[1] * GAIN <= per_row[0] and alone[1] <= GAIN * alone[0], note


def replayed(graph: Answering, signature: Signature, examples: Mapping[str, Any]) -> str:
    """Answer golden examples on the device that is to serve; returns what differs, empty if nothing does."""
    answers = answer_rows(graph, signature, examples["rows"])
    for tensor in signature.outputs:
        wrong = differences(
            examples["expected"][tensor.name], answers[tensor.name].tolist(), examples["tolerance"]
        )
        if wrong:
            return f"{wrong} value(s) of '{tensor.name}' differ from the golden examples"
    return ""


def as_on_cpu(graph: Answering, cpu: Answering, samples: list[dict[str, Array]]) -> str:
    """Compare answers to those of the CPU, for a model without golden examples."""
    if not samples:
        return "there is no row to compare its answers by"
    for feeds in samples:
        expected = cpu.run(feeds)
        for name, found in graph.run(feeds).items():
            if not same_values(found, expected[name]):
                return f"'{name}' differs from the CPU's answer"
    return ""
