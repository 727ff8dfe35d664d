"""Heads asked together, again and again: what is remembered from one request for the next never outlives its truth."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from serving_kit import Running, running
from test_dataplane import Bench
from test_heads import WIDTH, fused

from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import ModelworksError
from modelworks.serving.access import add_token
from modelworks.serving.errors import NonFiniteAnswer, Quarantined
from modelworks.serving.heads.split import Head
from modelworks.serving.heads.stack import HeadBlock
from modelworks.serving.model import MemorySource

ROW = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None]


def _heads(count: int) -> list[MemorySource]:
    return [fused(f"h{seed}", seed=seed, classes=(3, 2)[seed % 2]) for seed in range(count)]


def _expected(model: MemorySource) -> Any:
    return GraphSession(model.onnx).run({"x": ROW})["probabilities"][0]


def _ask(server: Running, names: list[str], token: str = "local") -> tuple[int, dict[str, Any]]:
    status, body, _ = server.request(
        "POST", "/v1/predict", {"models": names, "rows": [{"x": ROW[0].tolist()}]}, token=token
    )
    return status, body


def _answers_as(body: dict[str, Any], name: str, model: MemorySource, version: str) -> bool:
    found = body["models"][name]
    values = list(found["predictions"][0]["probabilities"].values())
    return bool(found["version"] == version and np.allclose(values, _expected(model), atol=1e-5))


def test_an_act_between_two_requests_holds_from_the_next_one(tmp_path: Path) -> None:
    sources, newer = _heads(5), fused("newer", seed=99)
    with running(tmp_path, sources) as server:
        names = [item.name for item in sources]
        deployments = server.server.deployments
        for _ in range(2):
            _, body = _ask(server, names)
            assert all(_answers_as(body, item.name, item, "1") for item in sources)
        server.wait(deployments.deploy(newer, endpoint="h2", actor="test"))
        for _ in range(2):
            _, body = _ask(server, names)
            assert _answers_as(body, "h2", newer, "2")
            assert all(_answers_as(body, item.name, item, "1") for item in sources if item.name != "h2")
        server.wait(deployments.rollback("h2", actor="test"))
        assert _answers_as(_ask(server, names)[1], "h2", sources[2], "1")
        server.wait(deployments.remove("h4", actor="test"))
        assert _ask(server, names)[0] == 404
        assert _ask(server, names[:4])[0] == 200


def test_a_canary_gets_its_share_of_what_is_asked_together(tmp_path: Path) -> None:
    sources, newer = _heads(4), fused("newer", seed=99)
    with running(tmp_path, sources) as server:
        names = [item.name for item in sources]
        _ask(server, names)
        server.wait(server.server.deployments.deploy(newer, endpoint="h0", actor="test", canary=0.5))
        versions = []
        for _ in range(60):
            _, body = _ask(server, names)
            versions.append(body["models"]["h0"]["version"])
            assert _answers_as(body, "h0", newer if versions[-1] == "2" else sources[0], versions[-1])
            assert _answers_as(body, "h1", sources[1], "1")
        assert 10 < versions.count("2") < 50
        server.on_loop(server.server.plane.fold)
        targets = server.server.plane.routes["h0"].targets
        assert targets["2"].counts.requests == versions.count("2")
        assert targets["1"].counts.requests == versions.count("1") + 1


def test_a_head_out_of_service_is_told_from_the_next_request_on_and_costs_the_others_nothing() -> None:
    async def work() -> None:
        sources = _heads(6)
        bench = Bench(*sources)
        targets = [bench.plane.resolve(item.name) for item in sources]
        await bench.plane.infer_many(targets, {"x": ROW})
        bench.residency.quarantine(targets[3].resident, "for a test")
        for number in range(3):
            answers = await bench.plane.infer_many(targets, {"x": ROW + 0.0})
            # One pass, not answers put together one by one.
            assert isinstance(answers, HeadBlock)
            assert isinstance(answers[3], Quarantined)
            assert targets[3].counts.errors == {"MW3412": number + 1}
            assert {position for positions, _, _ in answers.groups for position in positions} == {
                0,
                1,
                2,
                4,
                5,
            }
            for position in (0, 1, 2, 4, 5):
                answer = answers[position]
                assert not isinstance(answer, ModelworksError)
                assert np.allclose(answer["probabilities"][0], _expected(sources[position]), atol=1e-5)
        bench.residency.release(targets[3].resident)
        answers = await bench.plane.infer_many(targets, {"x": ROW})
        assert not any(isinstance(answer, ModelworksError) for answer in answers)
        bench.plane.fold()
        assert [target.counts.requests for target in targets] == [5] * 6
        assert [target.counts.latency.count for target in targets] == [5, 5, 5, 2, 5, 5]
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_head_that_was_evicted_is_let_go_of_and_comes_back() -> None:
    async def work() -> None:
        sources = _heads(4)
        bench = Bench(*sources)
        targets = [bench.plane.resolve(item.name) for item in sources]
        await bench.plane.infer_many(targets, {"x": ROW})
        place = weakref.ref(targets[1].resident.place)
        backbone: Any = weakref.ref(targets[0].resident.lane.runner)  # type: ignore[union-attr]
        assert targets[1].resident.hits == 0
        bench.residency.room.evict_down_to(bench.residency.room.used_bytes - 1, keep=None)
        # Before it was chosen who leaves, each had got its uses.
        assert sum(target.resident.hits for target in targets) == 3.5
        bench.residency.unload(targets[1].resident)
        # This very step of the loop holds the last answer.
        await asyncio.sleep(0)
        gc.collect()
        assert place() is None
        bench.residency.release(targets[1].resident)
        answers = await bench.plane.infer_many(targets, {"x": ROW})
        for model, answer in zip(sources, answers, strict=True):
            assert not isinstance(answer, ModelworksError)
            assert np.allclose(answer["probabilities"][0], _expected(model), atol=1e-5)
        for target in targets:
            bench.residency._evict(target.resident)
        del answers, answer
        await asyncio.to_thread(bench.residency._threads.submit(lambda: None).result, 20)
        gc.collect()
        assert backbone() is None
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def _loads_have_let_go(threads: ThreadPoolExecutor) -> None:
    """Wait until every thread that loads has begun another job, so that none holds its last result."""
    meeting = threading.Barrier(threads._max_workers)
    for job in [threads.submit(meeting.wait, 20) for _ in range(threads._max_workers)]:
        job.result(20)


def test_weights_are_held_once() -> None:
    async def work() -> None:
        sources = _heads(3)
        bench = Bench(*sources)
        await bench.plane.infer_many([bench.plane.resolve(item.name) for item in sources], {"x": ROW})
        await asyncio.to_thread(_loads_have_let_go, bench.residency._threads)
        assert [item for item in gc.get_objects() if type(item) is Head] == []
        bench.close()

    gc.collect()
    asyncio.run(asyncio.wait_for(work(), 60))


def test_metrics_hold_every_heads_share_of_many_requests(tmp_path: Path) -> None:
    sources = _heads(8)
    with running(tmp_path, sources) as server:
        names = [item.name for item in sources]
        asked: list[list[str]] = [names, names[::2], names[3:], [names[5]], names[::-1]] * 6
        for some in asked:
            assert _ask(server, some)[0] == 200
        server.infer(names[0], ROW)
        for _ in range(2):
            text = server.request("GET", "/metrics")[1].decode()
            for name in names:
                wanted = sum(name in some for some in asked) + (name == names[0])
                label = f'{{model="{name}",version="1"}}'
                assert f"modelworks_requests_total{label} {wanted}\n" in text
                assert f"modelworks_request_seconds_count{label} {wanted}\n" in text
                assert f"modelworks_batch_rows_sum{label} {wanted}\n" in text


def test_a_head_without_a_finite_answer_is_counted_as_failed_and_not_observed() -> None:
    async def work() -> None:
        sources = _heads(3)
        bench = Bench(*sources)
        targets = [bench.plane.resolve(item.name) for item in sources]
        await bench.plane.infer_many(targets, {"x": ROW})
        runner: Any = targets[0].resident.lane.runner  # type: ignore[union-attr]
        place = targets[1].resident.place
        assert place is not None
        runner.stack._groups[place.shape].weights[place.slot] = np.inf
        seen: list[list[bool]] = []
        bench.plane.observe_many = lambda work, answers, latency: seen.append(
            [isinstance(answer, ModelworksError) for answer in answers]
        )
        answers = await bench.plane.infer_many(targets, {"x": ROW + 1})
        assert [isinstance(answer, NonFiniteAnswer) for answer in answers] == seen[0] == [False, True, False]
        bench.plane.fold()
        assert [target.counts.requests for target in targets] == [2, 2, 2]
        assert [target.counts.latency.count for target in targets] == [2, 1, 2]
        assert targets[1].counts.errors == {"MW5410": 1}
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_token_for_some_heads_gets_no_answer_of_the_others(tmp_path: Path) -> None:
    sources = [*_heads(3), fused("other", seed=7)]
    with running(tmp_path, sources) as server:
        some = add_token(server.server.settings.keys, name="some", role="infer", endpoints=("h*",))
        server.on_loop(server.server.access.reload)
        every = [item.name for item in sources]
        mine = every[:3]
        for _ in range(2):
            # Also after one who may ask all of it did.
            assert _ask(server, every)[0] == 200
            status, body = _ask(server, every, some)
            assert status == 404 and "other" in body["error"] and "h0" not in body["error"]
            assert _ask(server, mine, some)[0] == 200
            assert _ask(server, ["missing", *mine], some)[0] == 404
        server.on_loop(server.server.plane.fold)
        assert server.server.plane.resolve("other").counts.requests == 2
        assert server.server.plane.resolve("h0").counts.requests == 4


def test_what_is_observed_of_heads_asked_together_is_each_ones_own(tmp_path: Path) -> None:
    sources = _heads(6)
    with running(tmp_path, sources, observe_share=1.0) as server:
        names = [item.name for item in sources]
        server.wait(server.server.deployments.configure("h1", {"observe": 0.0, "audit": 0.0}, actor="test"))
        server.on_loop(lambda: server.server.residency.quarantine(
            server.server.plane.resolve("h4").resident, "for a test"
        ))  # fmt: skip
        for some in (names, names[::-1], names[1:3], names):
            assert _ask(server, some)[0] == 200
    wanted = {"h0": 3, "h1": 0, "h2": 4, "h3": 3, "h4": 0, "h5": 3}
    for model in sources:
        files = sorted((tmp_path / "observations" / model.name).glob("seen-*.parquet"))
        rows = [row for path in files for row in pq.read_table(path).to_pylist()]
        assert len(rows) == wanted[model.name], model.name
        for row in rows:
            assert (row["endpoint"], row["digest"]) == (model.name, model.digest)
            assert np.allclose(row["out.probabilities"]["values"], _expected(model), atol=1e-5)
            assert np.allclose(row["in.x"]["values"], ROW[0])


def test_a_shadow_is_asked_whenever_its_head_is_asked_with_others(tmp_path: Path) -> None:
    async def work() -> None:
        sources, newer = _heads(4), fused("newer", seed=99)
        bench = Bench(*sources)
        targets = [bench.plane.resolve(item.name) for item in sources]
        await bench.plane.infer_many(targets, {"x": ROW})
        await bench.deployments.deploy(newer, endpoint="h2", actor="test", shadow=True)
        for _ in range(3):
            await bench.plane.infer_many([bench.plane.resolve(item.name) for item in sources], {"x": ROW})
        for _ in range(50):
            counts = bench.plane.routes["h2"].targets["2"].counts
            if counts.shadow_runs == 3:
                break
            await asyncio.sleep(0.02)
        assert (counts.shadow_runs, counts.shadow_different) == (3, 3)
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.parametrize("count", [1, 3])
def test_requests_for_the_same_heads_in_one_batch_get_their_own_rows(count: int) -> None:
    async def work() -> None:
        sources = _heads(count)
        bench = Bench(*sources)
        targets = [bench.plane.resolve(item.name) for item in sources]
        await bench.plane.infer_many(targets, {"x": ROW})
        lane = targets[0].resident.lane
        assert lane is not None
        lane.curve.best_rows = 64
        before = lane.counts.runs
        rows = [np.full((1 + number % 2, WIDTH), number / 10, np.float32) for number in range(8)]
        many = await asyncio.gather(
            *(bench.plane.infer_many(targets, {"x": row}) for row in rows),
            *(bench.infer(sources[0].name, row) for row in rows),
        )
        assert lane.counts.runs - before < 16
        for row, answers, alone in zip(rows, many[:8], many[8:], strict=True):
            for model, answer in zip(sources, answers, strict=True):
                expected = GraphSession(model.onnx).run({"x": row})["probabilities"]
                assert not isinstance(answer, ModelworksError)
                assert np.allclose(answer["probabilities"], expected, atol=1e-5)
            assert np.allclose(alone["probabilities"], answers[0]["probabilities"], atol=1e-5)
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))
