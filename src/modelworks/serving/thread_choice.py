"""How many threads one run of a model takes: one, unless more are measured to be quicker and to cost no capacity.

Runs of different requests already keep every core busy side by side. More threads in one run only help a request that
is alone, and what they lose in waiting for each other is lost by all. So a slow model gets several threads only where
one row is answered much sooner and the runs a second, with as many callers as there are cores, stay about the same.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import ModelworksError
from modelworks.serving.curve import LatencyCurve
from modelworks.serving.tensors import Array

_log = logging.getLogger("modelworks.serving")

SLOW_S = 0.005
"""Models that answer one row in less keep one thread, unmeasured."""

FASTER, LOSS = 1.5, 0.15
"""How many times sooner a row must be answered with more threads, and the share of the runs a second that may cost."""

_SPEND_S = 0.06
_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How a session runs one row.

    Attributes:
        row_s: Elapsed seconds of one run that is alone.
        runs_per_s: Runs a second of all callers side by side.
    """

    row_s: float
    runs_per_s: float


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The session that is to serve, and its curve.

    Attributes:
        session: The loaded graph; ``session.threads`` is the choice.
        curve: Its latency.
        note: Why so many threads; empty if there was nothing to choose.
    """

    session: GraphSession
    curve: LatencyCurve
    note: str = ""


Run = Callable[[], object]
Time = Callable[[Run, int], Timing]


def candidates(cores: int) -> tuple[int, ...]:
    """Return the numbers of threads worth trying beside one, for a process with so many cores to itself."""
    if cores < 2:
        return ()
    return (cores // 2, cores) if cores >= 4 else (cores,)


def decide(one: Timing, several: Mapping[int, Timing]) -> int:
    """Return the number of threads: the quickest for a lone row of those that keep the capacity, else 1."""
    fit = [
        (timing.row_s, threads)
        for threads, timing in several.items()
        if timing.row_s * FASTER <= one.row_s and timing.runs_per_s >= (1 - LOSS) * one.runs_per_s
    ]
    return min(fit)[1] if fit else 1


def timed(run: Run, callers: int, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Time runs, first alone and then from ``callers`` threads at once; takes about 0.12 s, more for slow ones."""
    run()
    row_s = math.inf
    end = clock() + _SPEND_S
    while True:
        start = clock()
        run()
        now = clock()
        row_s = min(row_s, now - start)
        if now >= end:
            break
    each = max(2, math.ceil(_SPEND_S / row_s)) if row_s > 0 else 2
    ready = threading.Barrier(callers + 1)
    failed: list[Exception] = []

    def call() -> None:
        ready.wait()
        try:
            for _ in range(each):
                run()
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=call, name="serving-timing", daemon=True) for _ in range(callers)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = clock()
    for worker in workers:
        worker.join()
    spent = clock() - start
    if failed:
        raise failed[0]
    return Timing(row_s=row_s, runs_per_s=callers * each / spent if spent > 0 else 0.0)


class ThreadChoice:
    """Chooses how many threads a run on the CPU takes; may be called from any thread.

    Who calls remembers the choice: a digest is measured once per process.

    Args:
        wanted: A fixed number; 0 measures.
        cores: Cores this process has to itself.
        time_runs: Times one-row runs from so many callers.
    """

    def __init__(self, wanted: int = 1, *, cores: int = 1, time_runs: Time = timed) -> None:
        self.wanted = wanted
        self.cores = cores
        self._time = time_runs

    @property
    def first(self) -> int:
        """Threads of the session a model is first loaded with."""
        return max(1, self.wanted)

    def choose(
        self,
        session: GraphSession,
        curve: LatencyCurve,
        feeds: Mapping[str, Array] | None,
        make: Callable[[int], GraphSession],
        measure: Callable[[GraphSession], LatencyCurve],
        replay: Callable[[GraphSession], str],
    ) -> Chosen:
        """Return the session to serve from.

        Args:
            session: The model on the CPU, loaded with ``first`` threads.
            curve: Its measured latency.
            feeds: One row; ``None`` leaves the choice at ``first``.
            make: Loads it with a number of threads.
            measure: Measures the curve of a session.
            replay: Answers golden examples with a session; returns what differs, empty if nothing does.
        """
        kept = Chosen(session=session, curve=curve)
        if self.wanted:
            cause = _differs(replay, session) if self.wanted > 1 else ""
            if not cause:
                return kept
            _log.warning("a model runs on one thread: on %d %s", self.wanted, cause)
            single = make(1)
            return Chosen(
                session=single, curve=measure(single), note=f"1 thread: on {self.wanted} threads {cause}"
            )
        if self.cores < 2 or feeds is None or curve.estimate(1) < SLOW_S:
            return kept
        try:
            chosen, note = self._compare(session, feeds, make)
        except ModelworksError as error:
            return replace(kept, note=f"1 thread: with more {error.message}")
        except Exception as error:
            # ONNX Runtime's own: no memory for another session, no more threads.
            return replace(kept, note=f"1 thread: with more {str(error).splitlines()[0][:200]}")
        if chosen is session:
            return replace(kept, note=note)
        cause = _differs(replay, chosen)
        if cause:
            _log.warning("a model runs on one thread: on %d %s", chosen.threads, cause)
            return replace(kept, note=f"1 thread: on {chosen.threads} threads {cause}")
        return Chosen(session=chosen, curve=measure(chosen), note=note)

    def _compare(
        self, session: GraphSession, feeds: Mapping[str, Array], make: Callable[[int], GraphSession]
    ) -> tuple[GraphSession, str]:
        """Time sessions in turns and return the one to take, and why; the others are let go of at once.

        The best of each counts: what neighbours take only ever slows down.
        """
        best = {1: self._time(partial(session.run, feeds), self.cores)}
        if best[1].row_s < SLOW_S:
            # The curve was taken in a few runs, on a machine that may be busy.
            return session, ""
        chosen = session
        for threads in candidates(self.cores):
            other = make(threads)
            for _ in range(_ROUNDS):
                for timed_one in (session, other):
                    found = self._time(partial(timed_one.run, feeds), self.cores)
                    known = best.get(timed_one.threads, found)
                    best[timed_one.threads] = Timing(
                        row_s=min(known.row_s, found.row_s),
                        runs_per_s=max(known.runs_per_s, found.runs_per_s),
                    )
            others = {count: timing for count, timing in best.items() if count > 1}
            taken = decide(best[1], others)
            if taken != chosen.threads:
                chosen = other if taken == threads else session
        return chosen, described(chosen.threads, self.cores, best[1], others)


def _differs(replay: Callable[[GraphSession], str], session: GraphSession) -> str:
    """Return what a session answers differently, or how it fails."""
    try:
        return replay(session)
    except Exception as error:
        return f"it fails: {str(error).splitlines()[0][:200]}"


def described(threads: int, cores: int, one: Timing, several: Mapping[int, Timing]) -> str:
    """Say what was measured, in one sentence."""
    others = ", ".join(
        f"{timing.row_s * 1e3:.3g} ms and {timing.runs_per_s:.3g} with {count}"
        for count, timing in several.items()
    )
    return (
        f"{threads} thread{'s' if threads > 1 else ''} a run: one row took {one.row_s * 1e3:.3g} ms and "
        f"{cores} callers got {one.runs_per_s:.3g} runs a second with 1, {others}"
    )
