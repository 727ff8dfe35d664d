"""The queue of one loaded model (or backbone): bounded, batched where the measured curve says that batching pays."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Protocol

from modelworks.serving.curve import LatencyCurve
from modelworks.serving.errors import Busy, DeadlinePassed, RunFailed
from modelworks.serving.flight import FlightRecorder, slot_of
from modelworks.serving.heads.stack import Place
from modelworks.serving.mixed import MixedFeeds, is_mixed, run_mixed
from modelworks.serving.work import Outcome, Runner, Work

PRIORITIES = 2
_SHORTER, _ALONE = 0.75, 2.0


def run_batch(runner: Runner, batch: list[Work]) -> list[Outcome]:
    """Run a batch; a runner that raises against its promise fails the batch and nothing else."""
    try:
        if is_mixed(batch[0]):
            return [run_mixed(runner, work) for work in batch]
        return runner.run(batch)
    except Exception as error:
        failure = RunFailed(f"The run failed ({type(error).__name__}).")
        return [(None, failure) for _ in batch]


@dataclass(frozen=True, kw_only=True)
class LaneLimits:
    """Limits of one model's queue.

    Attributes:
        queue_rows: Rows that may wait; more are refused with a retry time.
        batch_rows: Most rows of one run.
        batch_s: Longest run a batch may be grown to, seconds.
        wait_s: Longest time a batch waits for another row, seconds; 0 never waits.
        inline_s: What waits happens on the event loop, without a thread hop, if it is forecast to be shorter; a lone
            request, while nothing else waits or runs, if it is shorter than twice that.
        weight: Share of compute relative to other models.
    """

    queue_rows: int = 4096
    batch_rows: int = 64
    batch_s: float = 0.05
    wait_s: float = 0.002
    inline_s: float = 0.0003
    weight: float = 1.0


@dataclass(slots=True)
class LaneCounts:
    """What a lane did so far."""

    runs: int = 0
    rows: int = 0
    inline_runs: int = 0
    busy_s: float = 0.0
    refused: int = 0


class Job:
    """Batches of one lane that a thread runs one after the other.

    Until the thread begins, the event loop may add works to the last batch. No lock is taken: the thread runs what it
    finds when it begins a batch, and what came too late the loop finds behind it when the job ends.

    Attributes:
        lane: Whose they are.
        batches: Works of each run.
        forecast_s: Seconds charged to the lane until the real ones are known.
        begun: How many runs the thread has begun.
        taken: How many works of the batch begun last it found.
        results: Works, outcomes and seconds of each run that has ended.
    """

    __slots__ = ("batches", "begun", "forecast_s", "lane", "results", "taken")

    def __init__(self, lane: Lane, batches: list[list[Work]], forecast_s: float) -> None:
        self.lane = lane
        self.batches = batches
        self.forecast_s = forecast_s
        self.begun = 0
        self.taken = 0
        self.results: list[tuple[list[Work], list[Outcome], float]] = []

    def begin(self, index: int) -> list[Work]:
        """Return the works of a run that begins now; those given up meanwhile are left out."""
        self.taken = 0
        self.begun = index + 1
        found = self.batches[index][:]
        self.taken = len(found)
        return [work for work in found if not work.settled]

    def waiting(self) -> Iterator[Work]:
        """Return the works no run of which has begun."""
        if self.begun:
            yield from self.batches[self.begun - 1][self.taken :]
        for batch in self.batches[self.begun :]:
            yield from batch


class Pooled(Protocol):
    """What a lane needs of the worker threads; see ``serving.pool``."""

    recorder: FlightRecorder

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the threads or runs there."""
        ...

    def wake(self, lane: Lane) -> None:
        """Take note that ``lane`` has work."""
        ...


class Lane:
    """Works waiting for one runner. Lives on the event loop.

    Args:
        name: For messages.
        digest: SHA-256 of the package, in hex digits.
        runner: Runs the batches.
        curve: Its measured latency.
        limits: Bounds of queue and batch.
        loop: The event loop.
        pooled: Called when the lane has work for the worker threads.
    """

    def __init__(
        self,
        name: str,
        digest: str,
        runner: Runner,
        curve: LatencyCurve,
        limits: LaneLimits,
        loop: AbstractEventLoop,
        pooled: Pooled,
    ) -> None:
        self.name = name
        self.digest = slot_of(digest)
        self.runner = runner
        self.curve = curve
        self.limits = limits
        self.counts = LaneCounts()
        self.waiting: tuple[deque[Work], ...] = tuple(deque() for _ in range(PRIORITIES))
        self.waiting_rows = 0
        self.handed: dict[Job, None] = {}
        self.virtual_s = 0.0
        self.arrival_gap_s = 1.0
        self._last_arrival = 0.0
        self._loop = loop
        self._pooled = pooled
        self._flush_due = False

    def submit(self, work: Work) -> None:
        """Queue a work; its ``done`` is called later on the loop, never before this returns.

        Raises:
            Busy: The queue is full.
        """
        if self.waiting_rows and self.waiting_rows + work.rows > self.limits.queue_rows:
            self.counts.refused += 1
            backlog = self.curve.estimate(self.curve.best_rows) / self.curve.best_rows * self.waiting_rows
            raise Busy(
                f"Model '{self.name}': {self.waiting_rows} rows wait already "
                f"(at most {self.limits.queue_rows}).",
                retry_after_s=max(0.05, backlog),
            )
        gap = work.enqueued - self._last_arrival
        self._last_arrival = work.enqueued
        self.arrival_gap_s += 0.1 * (min(gap, 1.0) - self.arrival_gap_s)
        self.waiting[work.priority].append(work)
        self.waiting_rows += work.rows
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Run what arrived in this turn of the loop: here if it is quick, else hand it to the threads."""
        self._flush_due = False
        # Background work never takes the loop's time, and what the threads began they end in order.
        if self.handed or self._backlog_s() > self._inline_s():
            if self.waiting_rows:
                self._pooled.wake(self)
            return
        while self.waiting_rows:
            if not self.waiting[0] or is_mixed(self.waiting[0][0]):
                self._pooled.wake(self)
                return
            batch = self.take_batch(monotonic())
            if not batch:
                return
            self._pooled.recorder.begin(0, self.digest)
            # Not the thread's own time: asking for it costs more than all else that is done here for a run.
            start = perf_counter()
            outcomes = run_batch(self.runner, batch)
            self._pooled.recorder.end(0)
            self.counts.inline_runs += 1
            self.deliver(batch, outcomes, perf_counter() - start)

    def _inline_s(self) -> float:
        queue = self.waiting[0]
        alone = len(queue) == 1 and queue[0].rows == self.waiting_rows and self._pooled.idle
        # Waking a thread that slept costs as much as the run, and nobody is held up.
        return self.limits.inline_s * (_ALONE if alone else 1.0)

    def _backlog_s(self) -> float:
        """Return the forecast of running all that waits."""
        most = self._most_rows()
        full, rest = divmod(self.waiting_rows, most)
        spent_s = self.curve.estimate(rest) if rest else 0.0
        return spent_s + full * self.curve.estimate(most) if full else spent_s

    def next_run_s(self) -> float:
        """Return the forecast of the next run."""
        first = next((queue[0] for queue in self.waiting if queue), None)
        if first is None:
            return 0.0
        run_s = self.curve.estimate(max(first.rows, min(self.waiting_rows, self._most_rows())))
        return run_s * len(first.feeds.passes) if isinstance(first.feeds, MixedFeeds) else run_s

    def _most_rows(self) -> int:
        return min(self.limits.batch_rows, self.curve.best_rows)

    def take_batch(self, now: float, threads: int = 1) -> list[Work]:
        """Remove and return the works of the next run: equal shapes, highest priority first, none expired.

        With several ``threads`` free they are parted between these, if that answers them sooner; heads of one backbone
        are not, for equal inputs take one pass of it.
        """
        most = self._most_rows()
        if self.waiting_rows > most:
            most = min(self.limits.batch_rows, self.curve.try_rows())
        if threads > 1 and not (self.waiting[0] and self.waiting[0][0].places):
            most = self._part(min(most, self.waiting_rows), threads)
        batch: list[Work] = []
        rows = 0
        for queue in self.waiting:
            while queue:
                work = queue[0]
                if work.settled or work.deadline < now:
                    queue.popleft()
                    self.waiting_rows -= work.rows
                    self._expire(work)
                    continue
                if batch and (rows + work.rows > most or work.shape != batch[0].shape):
                    return batch
                queue.popleft()
                self.waiting_rows -= work.rows
                rows += work.rows
                work.started = now
                batch.append(work)
            if batch:
                return batch
        return batch

    def _part(self, rows: int, threads: int) -> int:
        """Return the rows of each of several runs side by side; all of them if these would hardly be shorter."""
        part = -(-rows // threads)
        return part if self.curve.estimate(part) <= _SHORTER * self.curve.estimate(rows) else rows

    def join(self, job: Job, longest_s: float) -> None:
        """Let what waits join the last batch of a job that has not begun, while its run is not longer than this."""
        batch = job.batches[-1]
        rows = sum(work.rows for work in batch)
        forecast_s = before_s = self.curve.estimate(rows)
        most = self._most_rows()
        queue = self.waiting[0]
        while queue:
            work = queue[0]
            rows += work.rows
            run_s = self.curve.estimate(rows)
            if rows > most or run_s > longest_s or work.shape != batch[0].shape:
                break
            forecast_s = run_s
            self.waiting_rows -= work.rows
            batch.append(queue.popleft())
        added_s = (forecast_s - before_s) / self.limits.weight
        job.forecast_s += added_s
        self.virtual_s += added_s

    def take_back(self, job: Job) -> None:
        """Queue again, before all others, what joined a job after the thread had begun it."""
        late = [work for work in job.waiting() if not work.settled]
        self.waiting[0].extendleft(reversed(late))
        self.waiting_rows += sum(work.rows for work in late)

    def _expire(self, work: Work) -> None:
        if not work.settled:
            work.settle(None, DeadlinePassed(f"Model '{self.name}': the deadline passed while waiting."))

    def expire(self, now: float) -> None:
        """Answer every waiting work whose deadline passed."""
        for queue in self.waiting:
            for work in queue:
                if work.deadline < now:
                    self._expire(work)

    def hold_s(self, now: float) -> float:
        """Return how long the next batch is worth holding back for one more row (0.0: run it now).

        Waiting one arrival gap costs every waiting row that gap and saves the compute of a separate run.
        """
        rows = self.waiting_rows
        if self.limits.wait_s <= 0 or rows >= self._most_rows():
            return 0.0
        oldest = min(queue[0].enqueued for queue in self.waiting if queue)
        left = self.limits.wait_s - (now - oldest)
        if left <= 0 or self.arrival_gap_s * rows >= self.curve.gain_of_waiting(rows):
            return 0.0
        return min(left, self.arrival_gap_s)

    def deliver(self, batch: list[Work], outcomes: list[Outcome], spent_s: float) -> None:
        """Count a run and hand its outcomes to the works."""
        rows = 0
        for work in batch:
            rows += work.rows
        counts = self.counts
        counts.runs += 1
        counts.rows += rows
        counts.busy_s += spent_s
        self.virtual_s += spent_s / self.limits.weight
        if not is_mixed(batch[0]):
            self.curve.observe(rows, spent_s)
        for work, (answer, error) in zip(batch, outcomes, strict=True):
            work.batch_rows = rows
            work.settle(answer, error)

    def fail_all(self, error: Exception) -> None:
        """Answer everything that waits, here or at a thread, with ``error``."""
        for queue in self.waiting:
            while queue:
                queue.popleft().settle(None, error)
        self.waiting_rows = 0
        for job in self.handed:
            for work in job.waiting():
                work.settle(None, error)

    def fail_head(self, place: Place, error: Exception) -> None:
        """Answer what waits for one head of a shared backbone alone with ``error``."""
        for works in (*self.waiting, *(job.waiting() for job in self.handed)):
            for work in works:
                if work.places == (place,):
                    work.settle(None, error)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self.waiting_rows and not self.handed
