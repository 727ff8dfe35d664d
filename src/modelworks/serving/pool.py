"""Worker threads for runs that take longer than a thread hop, shared fairly between models."""

from __future__ import annotations

import contextlib
import threading
from asyncio import AbstractEventLoop, TimerHandle
from queue import SimpleQueue
from time import thread_time

from modelworks.serving.errors import DeadlinePassed, NotReady
from modelworks.serving.flight import FlightRecorder
from modelworks.serving.lane import Lane, run_batch
from modelworks.serving.work import Outcome, Work

_SWEEP_S = 0.02


class WorkerPool:
    """Runs batches of lanes on a few threads; the lane that had least compute for its weight goes first.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996) over measured seconds: a lane that becomes busy starts
    at the pool's virtual time, so that idling earns no credit. Interactive work goes before background work.

    Args:
        loop: The event loop all bookkeeping lives on.
        threads: Worker threads.
        recorder: Where it is noted what runs; slot 0 is the event loop's.
    """

    def __init__(self, loop: AbstractEventLoop, threads: int, recorder: FlightRecorder | None = None) -> None:
        self.threads = threads
        self.recorder = recorder or FlightRecorder(None, 1)
        self._loop = loop
        self._jobs: SimpleQueue[tuple[Lane, list[Work]] | None] = SimpleQueue()
        self._free = threads
        self._lanes: dict[Lane, None] = {}
        self._running: dict[int, tuple[Lane, list[Work], float]] = {}
        self._virtual_s = 0.0
        self._sweep: TimerHandle | None = None
        self._hold: TimerHandle | None = None
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, args=(index + 1,), name=f"serving-run-{index}", daemon=True)
            for index in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    def wake(self, lane: Lane) -> None:
        """Take note that ``lane`` has work and start it if a thread is free."""
        if self._closed:
            lane.fail_all(NotReady("The server is shutting down."))
            return
        if lane not in self._lanes:
            self._lanes[lane] = None
            lane.virtual_s = max(lane.virtual_s, self._virtual_s)
        self._dispatch()
        if self._sweep is None and (self._lanes or self._running):
            self._sweep = self._loop.call_later(_SWEEP_S, self._sweep_deadlines)

    def _dispatch(self) -> None:
        held: list[tuple[float, Lane]] = []
        while self._free and self._lanes:
            now = self._loop.time()
            lane = min(self._lanes, key=_urgency)
            del self._lanes[lane]
            if not lane.waiting_rows:
                continue
            hold_s = lane.hold_s(now)
            if hold_s > 0:
                held.append((hold_s, lane))
                continue
            batch = lane.take_batch(now)
            if batch:
                self._start(lane, batch)
            if lane.waiting_rows:
                self._lanes[lane] = None
        for _, lane in held:
            self._lanes[lane] = None
        if held and self._free:
            if self._hold is not None:
                self._hold.cancel()
            self._hold = self._loop.call_later(min(hold_s for hold_s, _ in held), self._end_hold)

    def _end_hold(self) -> None:
        self._hold = None
        self._dispatch()

    def _start(self, lane: Lane, batch: list[Work]) -> None:
        self._free -= 1
        lane.running += 1
        self._virtual_s = max(self._virtual_s, lane.virtual_s)
        # Charged by forecast now, so that a second thread sees it, and corrected when the run has ended.
        forecast_s = lane.curve.estimate(sum(work.rows for work in batch)) / lane.limits.weight
        lane.virtual_s += forecast_s
        self._running[id(batch)] = (lane, batch, forecast_s)
        self._jobs.put((lane, batch))

    def _work(self, slot: int) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._run(slot, *job)
            # A waiting thread must not keep the last model in memory.
            del job

    def _run(self, slot: int, lane: Lane, batch: list[Work]) -> None:
        self.recorder.begin(slot, lane.digest)
        start = thread_time()
        outcomes = run_batch(lane.runner, batch)
        spent = thread_time() - start
        self.recorder.end(slot)
        # The loop may be gone when a long run ends after the server was closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, lane, batch, outcomes, spent)

    def _finish(self, lane: Lane, batch: list[Work], outcomes: list[Outcome], spent_s: float) -> None:
        self._free += 1
        lane.running -= 1
        _, _, forecast_s = self._running.pop(id(batch))
        lane.virtual_s -= forecast_s
        # The thread gets its next batch before these answers are written: it would idle meanwhile.
        self._dispatch()
        lane.deliver(batch, outcomes, spent_s)

    def _sweep_deadlines(self) -> None:
        """Answer works whose deadline passed while they waited or ran; a run that goes on is only unwatched."""
        self._sweep = None
        now = self._loop.time()
        for lane in list(self._lanes):
            lane.expire(now)
        for lane, batch, _ in list(self._running.values()):
            for work in batch:
                if work.deadline < now and not work.settled:
                    lane.counts.expired += 1
                    work.settle(
                        None, DeadlinePassed(f"Model '{lane.name}': the deadline passed during the run.")
                    )
        if (self._lanes or self._running) and not self._closed:
            self._sweep = self._loop.call_later(_SWEEP_S, self._sweep_deadlines)

    def longest_run_s(self) -> float:
        """Return for how long the oldest run has been going (0.0 if none runs)."""
        now = self._loop.time()
        return max((now - batch[0].started for _, batch, _ in self._running.values()), default=0.0)

    def close(self) -> None:
        """Refuse what waits and let the threads end after their current run."""
        self._closed = True
        for timer in (self._sweep, self._hold):
            if timer is not None:
                timer.cancel()
        for lane in list(self._lanes):
            lane.fail_all(NotReady("The server is shutting down."))
        self._lanes.clear()
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join(timeout=5.0)


def _urgency(lane: Lane) -> tuple[bool, float]:
    return (not lane.waiting[0], lane.virtual_s)
