"""Worker threads for runs that take longer than a thread hop, shared fairly between models."""

from __future__ import annotations

import contextlib
import threading
from asyncio import AbstractEventLoop, TimerHandle
from queue import SimpleQueue
from time import monotonic

from modelworks.serving.errors import DeadlinePassed, NotReady
from modelworks.serving.flight import FlightRecorder
from modelworks.serving.lane import Job, Lane, run_batch
from modelworks.serving.mixed import is_mixed
from modelworks.serving.work import Work

_SWEEP_S = 0.02
_JOB_S, _AHEAD_S = 0.001, 0.004
"""Forecast seconds up to which short runs are handed over together, and up to which a job may wait at a thread."""


class WorkerPool:
    """Runs batches of lanes on a few threads; the lane that had least compute for its weight goes first.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996) over measured seconds: a lane that becomes busy starts
    at the pool's virtual time, so that idling earns no credit. Interactive work goes before background work.

    A hop to a thread and back takes about as long as a short run. So that the threads need not wait for the event
    loop between two of these, each has one short job of interactive work ahead, and short runs go over together.

    Args:
        loop: The event loop all bookkeeping lives on.
        threads: Worker threads.
        recorder: Where it is noted what runs; slot 0 is the event loop's.
    """

    def __init__(self, loop: AbstractEventLoop, threads: int, recorder: FlightRecorder | None = None) -> None:
        self.threads = threads
        self.recorder = recorder or FlightRecorder(None, 1)
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._free = threads
        self._lanes: dict[Lane, None] = {}
        self._running: dict[Job, None] = {}
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

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the threads or runs there."""
        return not self._running and not self._lanes

    def wake(self, lane: Lane) -> None:
        """Take note that ``lane`` has work and start it if a thread is free."""
        if self._closed:
            lane.fail_all(NotReady("The server is shutting down."))
            return
        if lane.handed and not self._lanes:
            self._join(lane)
            if not lane.waiting_rows:
                return
        if lane not in self._lanes:
            self._lanes[lane] = None
            lane.virtual_s = max(lane.virtual_s, self._virtual_s)
        self._dispatch()
        if self._sweep is None and (self._lanes or self._running):
            self._sweep = self._loop.call_later(_SWEEP_S, self._sweep_deadlines)

    def _join(self, lane: Lane) -> None:
        """Let what arrived join a job of its lane that waits at a thread; no other lane waits to be overtaken."""
        job = next(reversed(lane.handed))
        first = job.batches[-1][0]
        if not job.begun and not first.priority and not is_mixed(first):
            lane.join(job, _AHEAD_S)

    def _dispatch(self) -> None:
        held: list[tuple[float, Lane]] = []
        while self._lanes and self._free > -self.threads:
            now = monotonic()
            lane = min(self._lanes, key=_urgency)
            if self._free <= 0 and not (lane.waiting[0] and lane.next_run_s() <= _AHEAD_S):
                break
            del self._lanes[lane]
            if not lane.waiting_rows:
                continue
            hold_s = lane.hold_s(now)
            if hold_s > 0:
                held.append((hold_s, lane))
                continue
            self._start(lane, now)
            if lane.waiting_rows:
                self._lanes[lane] = None
        for _, lane in held:
            self._lanes[lane] = None
        if held and self._free > 0:
            if self._hold is not None:
                self._hold.cancel()
            self._hold = self._loop.call_later(min(hold_s for hold_s, _ in held), self._end_hold)

    def _end_hold(self) -> None:
        self._hold = None
        self._dispatch()

    def _start(self, lane: Lane, now: float) -> None:
        """Hand the next run of a lane to the threads, and the short ones after it if no other thread is free."""
        batches: list[list[Work]] = []
        forecast_s = 0.0
        while True:
            run_s = lane.next_run_s()
            if batches and (self._free > 1 or not lane.waiting[0] or forecast_s + run_s > _JOB_S):
                break
            batch = lane.take_batch(now, self._free // (1 + len(self._lanes)))
            if batch:
                batches.append(batch)
                forecast_s += run_s
            if not lane.waiting_rows:
                break
        if not batches:
            return
        self._free -= 1
        self._virtual_s = max(self._virtual_s, lane.virtual_s)
        # Charged by forecast now, so that a second thread sees it, and corrected when the runs have ended.
        job = Job(lane, batches, forecast_s / lane.limits.weight)
        lane.virtual_s += job.forecast_s
        lane.handed[job] = self._running[job] = None
        self._jobs.put(job)

    def _work(self, slot: int) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._run(slot, job)
            # A waiting thread must not keep the last model in memory.
            del job

    def _run(self, slot: int, job: Job) -> None:
        lane = job.lane
        clock = lane.curve.clock
        for index in range(len(job.batches)):
            batch = job.begin(index)
            if not batch:
                continue
            self.recorder.begin(slot, lane.digest)
            began = monotonic()
            for work in batch:
                work.started = began
            start = clock()
            outcomes = run_batch(lane.runner, batch)
            job.results.append((batch, outcomes, clock() - start))
            self.recorder.end(slot)
        # The loop may be gone when a long run ends after the server was closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, job)

    def _finish(self, job: Job) -> None:
        lane = job.lane
        self._free += 1
        del self._running[job], lane.handed[job]
        lane.virtual_s -= job.forecast_s
        lane.take_back(job)
        # The thread gets its next batch before these answers are written: it would idle meanwhile.
        if lane.waiting_rows:
            self.wake(lane)
        else:
            self._dispatch()
        for batch, outcomes, spent_s in job.results:
            lane.deliver(batch, outcomes, spent_s)

    def _sweep_deadlines(self) -> None:
        """Answer works whose deadline passed while they waited or ran; a run that goes on is only unwatched."""
        self._sweep = None
        now = monotonic()
        for lane in list(self._lanes):
            lane.expire(now)
        for job in list(self._running):
            for work in (work for batch in job.batches for work in batch):
                if work.deadline < now and not work.settled:
                    work.settle(
                        None, DeadlinePassed(f"Model '{job.lane.name}': the deadline passed during the run.")
                    )
        if (self._lanes or self._running) and not self._closed:
            self._sweep = self._loop.call_later(_SWEEP_S, self._sweep_deadlines)

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
