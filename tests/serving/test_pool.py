"""The worker threads: what goes over together, what waits at a thread, and in which order answers come."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest

from modelworks.serving.curve import LatencyCurve
from modelworks.serving.errors import NotReady
from modelworks.serving.lane import Job, Lane, LaneLimits
from modelworks.serving.pool import WorkerPool
from modelworks.serving.work import Outcome, Work


class Busy:
    """A runner that takes so many seconds, behind a gate, and notes what it ran."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.runs: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        self.gate.wait(10)
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        self.runs.append([int(work.feeds["x"][0]) for work in works])
        return [(work.feeds, None) for work in works]


async def begun(lane: Lane) -> Job:
    """Wait until a thread has begun the oldest job of a lane."""
    async with asyncio.timeout(20):
        while not lane.handed or not next(iter(lane.handed)).begun:
            await asyncio.sleep(0.001)
    return next(iter(lane.handed))


class Bench:
    """A pool of some threads and the jobs it hands over."""

    def __init__(self, threads: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = WorkerPool(self.loop, threads)
        self.jobs: list[int] = []
        put: Callable[[Any], None] = self.pool._jobs.put

        class Watched:
            get = self.pool._jobs.get

            @staticmethod
            def put(job: Any) -> None:
                if job is not None:
                    self.jobs.append(len(job.batches))
                put(job)

        self.pool._jobs = Watched()  # type: ignore[assignment]
        self.answered: list[int] = []

    def lane(self, run_s: float, best_rows: int = 1, **limits: Any) -> tuple[Lane, Busy]:
        curve = LatencyCurve(best_rows)
        for rows in curve.sizes:
            curve.observe(rows, run_s * rows)
        curve.best_rows = best_rows
        runner = Busy(run_s)
        limits.setdefault("wait_s", 0.0)
        return Lane("m", "0" * 64, runner, curve, LaneLimits(**limits), self.loop, self.pool), runner

    def submit(self, lane: Lane, number: int, priority: int = 0) -> None:
        def done(work: Work, answer: Any, error: Exception | None) -> None:
            assert error is None
            self.answered.append(number)

        work = Work({"x": np.array([number])}, 1, None, done, enqueued=self.loop.time(), priority=priority)
        lane.submit(work)

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.answered) < count:
                await asyncio.sleep(0.001)


def test_short_runs_go_to_the_thread_together_and_answers_keep_their_order() -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, runner = bench.lane(0.0004)
        for number in range(12):
            bench.submit(lane, number)
        await bench.wait(12)
        assert bench.answered == list(range(12))
        assert runner.runs == [[number] for number in range(12)]
        assert bench.jobs == [2] * 6
        assert lane.counts.runs == 12 and lane.counts.inline_runs == 0 and not lane.handed
        assert not bench.pool._running and bench.pool._free == 1
        bench.pool.close()

    asyncio.run(work())


def test_one_short_run_stays_on_the_loop_unless_the_thread_is_at_the_same_model() -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, _ = bench.lane(0.0002)
        bench.submit(lane, 0)
        await bench.wait(1)
        assert not bench.jobs and lane.counts.inline_runs == 1
        for number in range(1, 6):
            bench.submit(lane, number)
        await asyncio.sleep(0)
        bench.submit(lane, 6)
        await bench.wait(7)
        assert bench.answered == list(range(7))
        assert lane.counts.inline_runs == 1
        bench.pool.close()

    asyncio.run(work())


def test_a_lone_request_stays_on_the_loop_longer_if_nothing_else_waits_or_runs() -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, _ = bench.lane(0.0005)
        other, runner = bench.lane(0.002)
        bench.submit(lane, 0)
        await bench.wait(1)
        assert not bench.jobs and lane.counts.inline_runs == 1
        runner.gate.clear()
        bench.submit(other, 1)
        await asyncio.sleep(0.01)
        bench.submit(lane, 2)
        await asyncio.sleep(0.01)
        assert len(bench.jobs) == 2 and lane.counts.inline_runs == 1
        runner.gate.set()
        await bench.wait(3)
        bench.submit(lane, 3)
        bench.submit(lane, 4)
        await bench.wait(5)
        assert lane.counts.inline_runs == 1 and lane.counts.runs == 4
        bench.pool.close()

    asyncio.run(work())


@pytest.mark.parametrize(("run_s", "ahead"), [(0.003, 1), (0.02, 0)])
def test_one_job_waits_at_a_thread_if_it_is_short(run_s: float, ahead: int) -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, runner = bench.lane(run_s)
        runner.gate.clear()
        for number in range(4):
            bench.submit(lane, number)
        await asyncio.sleep(0.02)
        assert len(bench.jobs) == 1 + ahead
        runner.gate.set()
        await bench.wait(4)
        bench.pool.close()

    asyncio.run(work())


def test_background_work_never_waits_at_a_thread_before_interactive_work() -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, runner = bench.lane(0.003)
        other, _ = bench.lane(0.003)
        runner.gate.clear()
        for number in range(3):
            bench.submit(lane, number, priority=1)
        await asyncio.sleep(0.02)
        assert bench.jobs == [1]
        bench.submit(other, 10)
        await asyncio.sleep(0.02)
        runner.gate.set()
        await bench.wait(4)
        assert bench.answered.index(10) == 1
        bench.pool.close()

    asyncio.run(work())


def test_two_threads_share_short_runs() -> None:
    async def work() -> None:
        bench = Bench(2)
        lane, _ = bench.lane(0.0004)
        for number in range(4):
            bench.submit(lane, number)
        await bench.wait(4)
        assert bench.jobs[0] == 1
        bench.pool.close()

    asyncio.run(work())


def test_what_is_given_up_at_a_thread_is_never_run_and_what_fails_there_is_told() -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, runner = bench.lane(0.002)
        runner.gate.clear()
        told: list[str] = []
        works = []
        for number in range(3):
            made = Work(
                {"x": np.array([number])}, 1, None, lambda w, a, e: told.append(type(e).__name__),
                enqueued=bench.loop.time(),
            )  # fmt: skip
            works.append(made)
            lane.submit(made)
        await asyncio.sleep(0.02)
        assert bench.jobs == [1, 1]
        works[1].cancel()
        lane.fail_all(NotReady("for a test"))
        assert told == ["NotReady"]
        runner.gate.set()
        while lane.handed:
            await asyncio.sleep(0.001)
        assert runner.runs == [[0]]
        assert told == ["NotReady", "NoneType"]
        bench.pool.close()

    asyncio.run(work())


def test_what_arrives_joins_the_batch_that_waits_at_the_thread() -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, runner = bench.lane(0.001, best_rows=4)
        runner.gate.clear()
        for number in range(7):
            bench.submit(lane, number)
            await (asyncio.sleep(0.002) if number else begun(lane))
        runner.gate.set()
        await bench.wait(7)
        # The first was not held back for others; the second waited at the thread and three joined it.
        assert runner.runs[:2] == [[0], [1, 2, 3, 4]] and [*chain(*runner.runs)] == list(range(7))
        assert bench.answered == list(range(7)) and not lane.waiting_rows and not lane.handed
        assert lane.virtual_s == pytest.approx(lane.counts.busy_s)
        bench.pool.close()

    asyncio.run(work())


def test_a_batch_that_waits_grows_neither_long_nor_past_another_model_nor_by_background_work() -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, runner = bench.lane(0.0015, best_rows=4)
        other, _ = bench.lane(0.0015)
        runner.gate.clear()
        for number in range(5):
            bench.submit(lane, number)
            await (asyncio.sleep(0.002) if number else begun(lane))
        bench.submit(other, 10)
        await asyncio.sleep(0.002)
        bench.submit(lane, 5, priority=1)
        await asyncio.sleep(0.002)
        runner.gate.set()
        await bench.wait(7)
        # Two rows are 3 ms, and three would be longer than a job may wait at a thread.
        assert runner.runs[:3] == [[0], [1, 2], [3, 4]] and runner.runs[-1] == [5]
        assert bench.answered.index(10) == 3
        bench.pool.close()

    asyncio.run(work())


def test_what_joins_too_late_is_queued_again_before_all_others() -> None:
    async def work() -> None:
        bench = Bench(1)
        lane, runner = bench.lane(0.001, best_rows=4)
        runner.gate.clear()
        bench.submit(lane, 0)
        first = await begun(lane)
        bench.submit(lane, 1)
        await asyncio.sleep(0.002)
        # The loop saw a job that had not begun, and the thread began it before the loop had added these.
        bench.submit(lane, 2)
        bench.submit(lane, 3)
        first.batches[-1] += [lane.waiting[0].popleft() for _ in range(2)]
        lane.waiting_rows -= 2
        assert [int(work.feeds["x"][0]) for work in first.waiting()] == [2, 3]
        await asyncio.sleep(0.002)
        runner.gate.set()
        await bench.wait(4)
        # Whether they come with 1 or behind it depends on when the thread begins that one.
        assert runner.runs[0] == [0] and [*chain(*runner.runs)] == [0, 1, 2, 3]
        assert not lane.waiting_rows and not lane.handed
        bench.pool.close()

    asyncio.run(work())


def test_a_batch_is_parted_between_free_threads_unless_its_run_would_be_no_shorter() -> None:
    async def work() -> None:
        for per_run, parted in ((0.0, True), (0.01, False)):
            bench = Bench(2)
            lane, runner = bench.lane(0.001, best_rows=4)
            lane.curve.seconds = [per_run + 0.001 * rows for rows in lane.curve.sizes]
            runner.gate.clear()
            for number in range(4):
                bench.submit(lane, number)
            await asyncio.sleep(0.01)
            runner.gate.set()
            await bench.wait(4)
            assert sorted(runner.runs) == ([[0, 1], [2, 3]] if parted else [[0, 1, 2, 3]])
            bench.pool.close()

    asyncio.run(work())
