"""The data plane without a door: batching, deadlines, limits, fairness, poison, shadow, drain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from serving_kit import adder, heavy, logarithm, row_mixer

from modelworks.core.errors import ModelworksError
from modelworks.serving.curve import LatencyCurve
from modelworks.serving.dataplane import DataPlane, PlaneLimits
from modelworks.serving.deployments import Deployments
from modelworks.serving.errors import Busy, DeadlinePassed, NonFiniteAnswer, NotReady
from modelworks.serving.journal import Journal
from modelworks.serving.lane import LaneLimits
from modelworks.serving.loading import Loader, LoadLimits
from modelworks.serving.model import ModelSource
from modelworks.serving.pool import WorkerPool
from modelworks.serving.proofs import Proofs
from modelworks.serving.residency import Residency
from modelworks.serving.work import Work


class Bench:
    """A plane on the running loop."""

    def __init__(
        self, *sources: ModelSource, threads: int = 2, deadline_s: float = 30.0, **lane: Any
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pool = WorkerPool(loop, threads)
        self.residency = Residency(
            loop,
            Loader(Proofs(None), LoadLimits()),
            self.pool,
            cap_bytes=2**30,
            lane_limits=LaneLimits(**lane),
        )
        self.plane = DataPlane(loop, self.residency, PlaneLimits(rows=1000, deadline_s=deadline_s))
        from modelworks.packaging.package import TrustPolicy

        self.deployments = Deployments(self.plane, Journal(None), TrustPolicy())
        self.deployments.serve(sources)

    async def infer(self, model: str, value: Any, **options: Any) -> Any:
        target = self.plane.resolve(model)
        tensor = target.signature.inputs[0]
        return await self.plane.infer(target, {tensor.name: np.asarray(value, dtype=np.float32)}, **options)

    def close(self) -> None:
        self.residency.close()
        self.pool.close()


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))


def test_concurrent_requests_share_runs_and_get_their_own_answers() -> None:
    async def work() -> None:
        bench = Bench(adder())
        await bench.infer("adder", [[0, 0, 0]])
        lane = bench.plane.resolve("adder").resident.lane
        assert lane is not None
        lane.curve.best_rows = 32
        before = lane.counts.runs
        answers = await asyncio.gather(
            *(bench.infer("adder", [[number, 0, 0]] * (1 + number % 3)) for number in range(60))
        )
        for number, answer in enumerate(answers):
            assert answer["prediction"].tolist() == [number + 1.0] * (1 + number % 3)
        assert lane.counts.runs - before < 60
        counts = bench.plane.resolve("adder").counts
        assert counts.requests == 61
        assert counts.rows == 1 + sum(1 + number % 3 for number in range(60))
        bench.close()

    _run(work)


def test_a_model_whose_rows_see_each_other_is_never_batched() -> None:
    async def work() -> None:
        bench = Bench(row_mixer())
        await bench.infer("mixer", [[1, 2]])
        lane = bench.plane.resolve("mixer").resident.lane
        assert lane is not None and lane.curve.best_rows == 1
        answers = await asyncio.gather(*(bench.infer("mixer", [[number, 1]]) for number in range(30)))
        assert [answer["y"].tolist() for answer in answers] == [[[2 * number + 1, 3]] for number in range(30)]
        bench.close()

    _run(work)


def test_one_poisoned_row_spoils_only_its_own_request() -> None:
    async def work() -> None:
        bench = Bench(logarithm())
        await bench.infer("logarithm", [[1]])
        lane = bench.plane.resolve("logarithm").resident.lane
        assert lane is not None
        lane.curve.best_rows = 64
        values = [1.0, 2.0, 0.0, 4.0, -1.0, 6.0]
        answers = await asyncio.gather(
            *(bench.infer("logarithm", [[value]]) for value in values), return_exceptions=True
        )
        for value, answer in zip(values, answers, strict=True):
            if value <= 0:
                assert isinstance(answer, NonFiniteAnswer)
            else:
                assert answer["prediction"][0, 0] == pytest.approx(np.log(value))
        assert bench.plane.resolve("logarithm").counts.errors == {"MW5410": 2}
        bench.close()

    _run(work)


def test_slow_models_run_in_threads_and_never_hold_up_quick_ones() -> None:
    async def work() -> None:
        bench = Bench(adder(), heavy(width=1000, layers=10))
        await asyncio.gather(bench.infer("adder", [[1, 1, 1]]), bench.infer("heavy", np.ones((1, 1000))))
        names: set[str] = set()
        lane = bench.plane.resolve("heavy").resident.lane
        assert lane is not None
        real = lane.runner.run

        def run(*arguments: Any) -> Any:
            names.add(threading.current_thread().name)
            return real(*arguments)

        lane.runner.run = run  # type: ignore[method-assign]
        slow = [asyncio.ensure_future(bench.infer("heavy", np.ones((32, 1000)))) for _ in range(12)]
        quick = 0
        while not all(task.done() for task in slow):
            await bench.infer("adder", [[1, 1, 1]])
            quick += 1
        assert all(name.startswith("serving-run") for name in names) and names
        # If a slow run held the loop, at most one quick answer would fit between two slow ones.
        assert quick > 50
        adder_lane = bench.plane.resolve("adder").resident.lane
        assert adder_lane is not None and adder_lane.counts.inline_runs == adder_lane.counts.runs
        bench.close()

    _run(work)


def test_a_full_queue_refuses_with_a_retry_time_and_recovers() -> None:
    async def work() -> None:
        bench = Bench(heavy(width=1000, layers=8), queue_rows=8, threads=1)
        await bench.infer("heavy", np.ones((1, 1000)))
        tasks = [asyncio.ensure_future(bench.infer("heavy", np.ones((4, 1000)))) for _ in range(30)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Busy)]
        assert refused and all(error.retry_after_s > 0 for error in refused)
        assert len(refused) < 30
        assert bench.plane.in_flight == 0
        assert (await bench.infer("heavy", np.ones((1, 1000))))["y"].shape == (1, 1000)
        bench.close()

    _run(work)


def test_deadlines_hold_while_waiting_and_while_running() -> None:
    async def work() -> None:
        bench = Bench(heavy(width=1000, layers=32), threads=1)
        await bench.infer("heavy", np.ones((1, 1000)))
        long = asyncio.ensure_future(bench.infer("heavy", np.ones((1000, 1000))))
        await asyncio.sleep(0.03)
        started = time.monotonic()
        with pytest.raises(DeadlinePassed):
            await bench.infer("heavy", np.ones((1, 1000)), timeout_s=0.05)
        assert not long.done() or time.monotonic() - started < 5
        assert (await long)["y"].shape == (1000, 1000)
        with pytest.raises(DeadlinePassed, match="during the run"):
            await bench.infer("heavy", np.ones((1000, 1000)), timeout_s=0.05)
        assert bench.plane.resolve("heavy").counts.errors == {"MW2313": 2}
        assert bench.plane.in_flight == 0
        bench.close()

    _run(work)


def test_a_cancelled_request_is_never_run() -> None:
    async def work() -> None:
        bench = Bench(heavy(width=1000, layers=10), threads=1)
        await bench.infer("heavy", np.ones((1, 1000)))
        lane = bench.plane.resolve("heavy").resident.lane
        assert lane is not None
        lane.curve.best_rows = 1
        blocker = asyncio.ensure_future(bench.infer("heavy", np.ones((256, 1000))))
        await asyncio.sleep(0.02)
        tasks = [asyncio.ensure_future(bench.infer("heavy", np.ones((1, 1000)))) for _ in range(10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        before = lane.counts.rows
        await blocker
        await bench.infer("heavy", np.ones((1, 1000)))
        assert lane.counts.rows == before + 257
        assert bench.plane.in_flight == 0
        bench.close()

    _run(work)


def test_background_work_waits_for_interactive_work() -> None:
    async def work() -> None:
        bench = Bench(heavy(width=1000, layers=8), threads=1)
        await bench.infer("heavy", np.ones((1, 1000)))
        lane = bench.plane.resolve("heavy").resident.lane
        assert lane is not None
        lane.curve.best_rows = 1
        order: list[str] = []

        async def one(kind: str, priority: int) -> None:
            await bench.infer("heavy", np.ones((1, 1000)), priority=priority)
            order.append(kind)

        await asyncio.gather(
            *(one("background", 1) for _ in range(6)), *(one("interactive", 0) for _ in range(6))
        )
        # One background run may have started before the interactive work arrived.
        assert order[1:7].count("interactive") >= 5
        bench.close()

    _run(work)


def test_two_models_share_the_threads_fairly() -> None:
    async def work() -> None:
        bench = Bench(
            heavy("greedy", width=1000, layers=6), heavy("modest", width=1000, layers=6, seed=1), threads=1
        )
        await asyncio.gather(
            bench.infer("greedy", np.ones((1, 1000))), bench.infer("modest", np.ones((1, 1000)))
        )
        for name in ("greedy", "modest"):
            lane = bench.plane.resolve(name).resident.lane
            assert lane is not None
            lane.curve.best_rows = 1
        order: list[str] = []

        async def one(name: str) -> None:
            await bench.infer(name, np.ones((1, 1000)))
            order.append(name)

        await asyncio.gather(*(one("greedy") for _ in range(60)), *(one("modest") for _ in range(6)))
        # First come, first served would answer the modest model last.
        assert order.index("modest") < 12
        assert max(index for index, name in enumerate(order) if name == "modest") < 30
        bench.close()

    _run(work)


def test_a_shadow_is_compared_and_never_answers() -> None:
    async def work() -> None:
        champion, other, same = adder(amount=1), adder(amount=2), adder(amount=1.000001)
        bench = Bench(champion)
        await bench.deployments.deploy(other, actor="test", shadow=True)
        for number in range(20):
            assert (await bench.infer("adder", [[number, 0, 0]]))["prediction"].tolist() == [number + 1.0]
        counts = bench.plane.routes["adder"].targets["2"].counts
        while counts.shadow_runs < 20:
            await asyncio.sleep(0.01)
        assert counts.shadow_different == 20
        assert counts.requests == 0
        await bench.deployments.deploy(same, actor="test", shadow=True)
        for number in range(5):
            await bench.infer("adder", [[number, 0, 0]])
        counts = bench.plane.routes["adder"].targets["3"].counts
        while counts.shadow_runs < 5:
            await asyncio.sleep(0.01)
        assert counts.shadow_different == 0
        bench.close()

    _run(work)


def test_draining_answers_what_is_under_way_and_takes_nothing_new() -> None:
    async def work() -> None:
        bench = Bench(heavy(width=1000, layers=8))
        await bench.infer("heavy", np.ones((1, 1000)))
        tasks = [asyncio.ensure_future(bench.infer("heavy", np.ones((8, 1000)))) for _ in range(10)]
        await asyncio.sleep(0)
        draining = asyncio.ensure_future(bench.plane.drain(20))
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            await bench.infer("heavy", np.ones((1, 1000)))
        assert await draining
        assert all(answer["y"].shape == (8, 1000) for answer in await asyncio.gather(*tasks))
        bench.close()

    _run(work)


def test_requests_that_do_not_fit_are_refused_with_their_place() -> None:
    async def work() -> None:
        bench = Bench(adder())
        cases: list[tuple[Any, str]] = [
            (np.zeros((0, 3)), "no rows"),
            (np.zeros((1001, 3)), "1001 rows"),
            (np.array([[1, 2, 3], [1, np.inf, 3]]), "row 1, column 'c1': a value is infinite"),
        ]
        for value, text in cases:
            with pytest.raises(ModelworksError, match=text):
                await bench.infer("adder", value)
        # NaN means missing in a packed table input, and can be refused by the endpoint.
        with pytest.raises(NonFiniteAnswer):
            await bench.infer("adder", [[1, np.nan, 3]])
        await bench.deployments.configure("adder", {"nan": "refuse"}, actor="test")
        with pytest.raises(ModelworksError, match="column 'c1': a value is missing or NaN, which this"):
            await bench.infer("adder", [[1, np.nan, 3]])
        bench.close()

    _run(work)


def test_curve_finds_where_batching_stops_to_pay() -> None:
    def measured(per_run: float, per_row: float) -> LatencyCurve:
        curve = LatencyCurve(64)
        curve.seconds = [per_run + per_row * size for size in curve.sizes]
        curve.decide(1.0)
        return curve

    assert measured(1e-3, 1e-6).best_rows == 64
    assert measured(0, 1e-3).best_rows == 1
    assert measured(1e-3, 1e-3).best_rows == 16
    flat = measured(1e-3, 1e-6)
    assert flat.estimate(1) == pytest.approx(1.001e-3)
    assert flat.estimate(48) == pytest.approx(1.048e-3)
    assert flat.estimate(128) == pytest.approx(1.128e-3)
    assert flat.gain_of_waiting(1) == pytest.approx(1e-3)
    assert measured(0, 1e-3).gain_of_waiting(1) == 0
    flat.decide(1.02e-3)
    assert flat.best_rows == 16


def test_a_slow_model_is_measured_at_sizes_where_batching_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six runs at one row and six at two used up the time: a text model was never batched by more than two."""
    now = [0.0]
    monkeypatch.setattr("modelworks.serving.curve.perf_counter", lambda: now[0])
    runs: dict[int, int] = {}

    def run(rows: int) -> None:
        runs[rows] = runs.get(rows, 0) + 1
        now[0] += (0.0032 + 0.0032 * rows) if slow else (0.0001 + 0.00001 * rows)

    slow = True
    curve = LatencyCurve(64)
    curve.measure(run, limit_s=0.1, longest_s=0.05, clock=lambda: now[0])
    assert curve.best_rows == 8
    slow, runs = False, {}
    curve = LatencyCurve(64)
    curve.measure(run, limit_s=0.1, longest_s=0.05, clock=lambda: now[0])
    assert curve.best_rows == 64 and set(runs.values()) == {6}


def test_short_runs_are_made_one_and_long_ones_only_if_rows_get_cheaper() -> None:
    def measured(*seconds: float) -> int:
        curve = LatencyCurve(8)
        curve.seconds = list(seconds)
        curve.decide(1.0)
        return curve.best_rows

    # 175 us a row however many: each run costs 30 us beside it, and four together end no later than four in a row.
    assert measured(175e-6, 350e-6, 700e-6, 1400e-6) == 8
    assert measured(175e-6, 400e-6, 800e-6, 1600e-6) == 1
    assert measured(5e-3, 10e-3, 20e-3, 40e-3) == 1
    assert measured(5e-3, 9e-3, 18e-3, 36e-3) == 2


def test_a_curve_of_a_busy_machine_does_not_decide_for_good() -> None:
    curve = LatencyCurve(64)
    curve.measure(lambda rows: None, limit_s=1.0, longest_s=0.05, clock=lambda: 0.0)
    curve.seconds = [1e-3, 2.2e-3, 9e-3, 30e-3, None, None, None]
    curve.decide(0.05)
    assert curve.best_rows == 1
    tried = []
    for _ in range(4000):
        rows = curve.try_rows()
        tried.append(rows)
        curve.observe(rows, 0.4e-3 + 0.3e-3 * rows)
    assert curve.best_rows == 16
    assert tried[-1000:].count(32) in range(20, 40)
    # One that never stacks has no other size to try, and one that is long already tries nothing much longer.
    assert LatencyCurve(1).try_rows() == 1
    slow = LatencyCurve(64)
    slow.measure(lambda rows: None, limit_s=1.0, longest_s=0.05, clock=lambda: 0.0)
    slow.seconds = [20e-3, 30e-3, 70e-3, None, None, None, None]
    slow.decide(0.05)
    assert {slow.try_rows() for _ in range(100)} == {2}


def test_curve_follows_what_is_observed_but_not_one_stall() -> None:
    curve = LatencyCurve(8)
    curve.seconds = [1e-3, 1e-3, 1e-3, 1e-3]
    curve.observe(1, 10.0)
    assert curve.estimate(1) < 1.5e-3
    for _ in range(500):
        curve.observe(1, 2e-3)
        curve.observe(3, 4e-3)
    assert curve.estimate(1) == pytest.approx(2e-3, rel=0.05)
    assert curve.estimate(3) == pytest.approx(4e-3, rel=0.3)


def test_an_expired_work_is_answered_once() -> None:
    outcomes: list[Any] = []
    work = Work(
        {}, 1, None, lambda work, answer, error: outcomes.append((answer, error)), enqueued=0.0, deadline=1.0
    )
    assert work.settle(None, DeadlinePassed("late"))
    assert not work.settle({}, None)
    assert len(outcomes) == 1
