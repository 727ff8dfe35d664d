"""One backbone, many heads: found by content, answered from one pass, equal to the fused graph, safe to change."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from serving_kit import graph, running, source
from test_dataplane import Bench

from modelworks.compute.runtime import GraphSession
from modelworks.core.signature import Tensor
from modelworks.serving.errors import NonFiniteAnswer, Quarantined
from modelworks.serving.heads.embeddings import EmbeddingCache, row_keys
from modelworks.serving.heads.runner import BackboneRunner
from modelworks.serving.heads.split import Head, split_head
from modelworks.serving.heads.stack import HeadBlock, HeadStack, Selection
from modelworks.serving.lane import Lane
from modelworks.serving.loading import Loader, LoadLimits
from modelworks.serving.model import MemorySource
from modelworks.serving.proofs import Proofs

WIDTH, SIZE = 24, 16


def fused(
    name: str, *, seed: int, classes: int = 3, hidden: int = 0, backbone: int = 0, layers: int = 2, gemm: bool = False,
    label: bool = True, threshold: bool = False, wide: int = 64,
) -> MemorySource:  # fmt: skip
    """A backbone (the same for the same ``backbone``) with a head of its own seed."""
    trunk, rng = np.random.default_rng(1000 + backbone), np.random.default_rng(seed)
    inputs = [Tensor(name="x", datatype="FP32", shape=(-1, WIDTH))]
    outputs = [Tensor(name="probabilities", datatype="FP32", shape=(-1, classes))]
    nodes, constants, last, size = [], {}, "x", WIDTH
    for index in range(layers):
        next_size = SIZE if index == layers - 1 else wide
        constants[f"b{index}"] = (trunk.standard_normal((size, next_size)) / size**0.5).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [last, f"b{index}"], [f"t{index}"]))
        nodes.append(
            helper.make_node("Tanh", [f"t{index}"], ["embedding" if index == layers - 1 else f"u{index}"])
        )
        last, size = nodes[-1].output[0], next_size
    outs = 1 if classes == 2 else max(1, classes)
    if hidden:
        constants["hw"] = rng.standard_normal((SIZE, hidden)).astype(np.float32)
        constants["hb"] = rng.standard_normal(hidden).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", [last, "hw"], ["h1"]), helper.make_node("Add", ["h1", "hb"], ["h2"]),
            helper.make_node("Relu", ["h2"], ["h3"]),
        ]  # fmt: skip
        last, size = "h3", hidden
    weights = rng.standard_normal((size, outs)).astype(np.float32)
    constants["bias"] = rng.standard_normal(outs).astype(np.float32)
    if gemm:
        constants["weights"] = np.ascontiguousarray(weights.T)
        nodes.append(helper.make_node("Gemm", [last, "weights", "bias"], ["logits"], transB=1))
    else:
        constants["weights"] = weights
        nodes += [
            helper.make_node("MatMul", [last, "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
        ]
    names: tuple[str, ...] = tuple(f"c{index}" for index in range(classes))
    if classes == 0:
        outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
        constants["flat"] = np.array([-1], np.int64)
        nodes.append(helper.make_node("Reshape", ["logits", "flat"], ["prediction"]))
        return source(name, graph(nodes, inputs, outputs, constants), inputs, outputs)
    if classes == 2:
        constants["one"] = np.array(1, np.float32)
        nodes += [
            helper.make_node("Sigmoid", ["logits"], ["yes"]), helper.make_node("Sub", ["one", "yes"], ["no"]),
            helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
        ]  # fmt: skip
    else:
        nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    if label:
        outputs.append(Tensor(name="label", datatype="BYTES", shape=(-1,)))
        constants["names"] = np.array([item.encode() for item in names], dtype=object)
        if threshold:
            constants["third"] = np.array(0.3, np.float32)
            nodes += [
                helper.make_node("Greater", ["yes", "third"], ["over"]),
                helper.make_node("Cast", ["over"], ["best2"], to=7), helper.make_node("Flatten", ["best2"], ["best1"]),
                helper.make_node("Squeeze", ["best1", "axis"], ["best"]),
            ]  # fmt: skip
            constants["axis"] = np.array([1], np.int64)
        else:
            nodes.append(helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0))
        nodes.append(helper.make_node("Gather", ["names", "best"], ["label"]))
    return source(name, graph(nodes, inputs, outputs, constants), inputs, outputs, classes=names)


FORMS: list[dict[str, Any]] = [
    {"classes": 3}, {"classes": 2}, {"classes": 0}, {"classes": 5, "gemm": True}, {"classes": 2, "hidden": 8},
    {"classes": 4, "hidden": 8}, {"classes": 0, "hidden": 8}, {"classes": 3, "label": False},
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_parts_answer_as_the_whole(form: dict[str, Any]) -> None:
    model = fused("m", seed=3, **form)
    split = split_head(model.onnx, model.signature)
    assert split is not None
    runner = BackboneRunner(GraphSession(split.backbone), 0)
    x = np.random.default_rng(0).standard_normal((40, WIDTH)).astype(np.float32)
    expected = GraphSession(model.onnx).run({"x": x})
    found = runner.stack.answer(runner.stack.add(split.head), runner.embed({"x": x}))
    assert set(found) == set(expected)
    for name, array in expected.items():
        if array.dtype.kind == "f":
            assert np.allclose(found[name], array, atol=1e-5)
        else:
            assert found[name].tolist() == array.tolist()


def test_backbones_are_known_by_content() -> None:
    one, two = fused("a", seed=1), fused("b", seed=2, classes=2, hidden=4)
    other = fused("c", seed=1, backbone=1)
    digests = [
        split.digest for model in (one, two, other) if (split := split_head(model.onnx, model.signature))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_what_is_no_such_head_is_left_whole() -> None:
    from serving_kit import adder

    threshold = fused("t", seed=1, classes=2, threshold=True)
    assert split_head(threshold.onnx, threshold.signature) is None
    assert split_head(adder().onnx, adder().signature) is None


def test_a_graph_that_only_looks_like_a_head_is_served_whole(tmp_path: Path) -> None:
    """The labels are gathered in another order than the classes say: the parts would answer wrongly."""
    model = fused("m", seed=3)
    swapped = MemorySource(
        name="m", digest="aa" * 32, onnx=model.onnx.replace(b"c0", b"zz"), signature=model.signature
    )  # fmt: skip
    loader = Loader(Proofs(None), LoadLimits())
    assert loader.load(swapped).shared is None
    assert loader.load(model).shared is not None


# -- the stack ---------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(FORMS), min_size=1, max_size=12), st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_one_some_and_all_heads_agree(forms: list[dict[str, Any]], seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    stack = HeadStack()
    heads = []
    for number, form in enumerate(forms):
        model = fused("m", seed=seed + number, **form)
        split = split_head(model.onnx, model.signature)
        assert split is not None
        heads.append(split.head)
    places = [stack.add(head) for head in heads]
    embeddings = rng.standard_normal((rows, SIZE)).astype(np.float32)
    alone = [stack.answer(place, embeddings) for place in places]

    def together(asked: list[Any]) -> HeadBlock:
        selection = Selection(asked)
        return HeadBlock(selection, stack.answer_many(selection, embeddings))

    some = range(0, len(places), 3)
    for asked, expected in (
        (places, alone), (places[::-1], alone[::-1]), ([places[i] for i in some], [alone[i] for i in some]),
    ):  # fmt: skip
        found = together(asked)
        assert len(found) == len(asked)
        for one, other in zip(expected, found, strict=True):
            assert not isinstance(other, Exception)
            for name in one:
                assert one[name].shape == other[name].shape
                if one[name].dtype.kind == "f":
                    assert np.allclose(one[name], other[name], atol=1e-5)
                else:
                    assert one[name].tolist() == other[name].tolist()
    each = stack.answer_each(places, np.repeat(embeddings[:1], len(places), axis=0))
    for one, other in zip(alone, each, strict=True):
        for name in one:
            if one[name].dtype.kind == "f":
                assert np.allclose(one[name][:1], other[name], atol=1e-5)


def _plain_head(seed: int) -> Head:
    rng = np.random.default_rng(seed)
    model = fused("m", seed=0, classes=0)
    return Head(
        rng.standard_normal((1, SIZE)).astype(np.float32),
        np.zeros(1, np.float32),
        None,
        "identity",
        model.signature,
    )


def test_heads_come_and_go_while_others_are_answered() -> None:
    stack = HeadStack()
    kept = [(head, stack.add(head)) for head in (_plain_head(seed) for seed in range(20))]
    embeddings = np.random.default_rng(5).standard_normal((3, SIZE)).astype(np.float32)
    expected = [embeddings @ head.weights.T for head, _ in kept]
    asked = Selection([place for _, place in kept])
    stop = threading.Event()
    wrong: list[int] = []
    passing: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            for index, answer in enumerate(HeadBlock(asked, stack.answer_many(asked, embeddings))):
                assert not isinstance(answer, Exception)
                if not np.allclose(answer["prediction"], expected[index][:, 0], atol=1e-4):
                    wrong.append(index)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for seed in range(100, 400):
        place = stack.add(_plain_head(seed))
        if seed % 2:
            passing.append(place)
        del place
    stop.set()
    for reader in readers:
        reader.join(20)
    assert wrong == []
    # Half of those that came were let go of at once: their slots were used again.
    assert len({place.slot for place in passing}) == 150
    assert max(place.slot for place in passing) < 20 + 150 + 1
    before = stack.nbytes
    for seed in range(50):
        stack.add(_plain_head(seed))
    assert stack.nbytes == before


# -- the cache ---------------------------------------------------------------------------------------------------


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    cache = EmbeddingCache(10 * (SIZE * 4 + 16))
    rows = np.random.default_rng(0).standard_normal((30, SIZE)).astype(np.float32)
    keys = row_keys({"x": rows})
    assert len(set(keys)) == 30
    cache.put(keys[:10], rows[:10])
    assert all(value is not None for value in cache.get(keys[:10]))
    cache.get(keys[:2])
    cache.put(keys[10:18], rows[10:18])
    assert [value is not None for value in cache.get(keys[:10])] == [True, True] + [False] * 8


def test_keys_tell_rows_apart_whatever_their_inputs() -> None:
    texts = np.array([["a", "bc"], ["ab", "c"], ["a", "bc"]], dtype=object)
    numbers = np.array([[1], [1], [1]], np.float32)
    keys = row_keys({"t": texts, "n": numbers})
    assert keys[0] == keys[2] != keys[1]
    assert row_keys({"n": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2]})[0] == row_keys(
        {"n": np.array([[0, 2]], np.float32)}
    )[0]  # fmt: skip


# -- served ------------------------------------------------------------------------------------------------------


def _count_embeds(bench: Bench, name: str) -> list[int]:
    lane = bench.plane.resolve(name).resident.lane
    assert lane is not None
    runner: Any = lane.runner
    rows: list[int] = []
    real = runner.session.run

    def run(feeds: Any, outputs: Any = None) -> Any:
        rows.append(len(next(iter(feeds.values()))))
        return real(feeds, outputs)

    runner.session.run = run
    return rows


def test_heads_of_one_backbone_share_a_session_a_batch_and_a_pass() -> None:
    async def work() -> None:
        sources = [fused(f"h{seed}", seed=seed, **FORMS[seed % len(FORMS)]) for seed in range(24)]
        bench = Bench(*sources)
        x = np.random.default_rng(0).standard_normal((1, WIDTH)).astype(np.float32)
        for item in sources:
            await bench.infer(item.name, x)
        lanes = {id(bench.plane.resolve(item.name).resident.lane) for item in sources}
        assert len(lanes) == 1
        seen = _count_embeds(bench, "h0")
        lane = bench.plane.resolve("h0").resident.lane
        assert lane is not None
        # Whatever a busy machine said when it was measured.
        lane.curve.best_rows = 64
        runner: Any = lane.runner
        runner.cache = EmbeddingCache(10**6)
        answers = await asyncio.gather(*(bench.infer(item.name, x) for item in sources))
        assert seen == [1]
        for item, answer in zip(sources, answers, strict=True):
            expected = GraphSession(item.onnx).run({"x": x})
            for name, array in expected.items():
                if array.dtype.kind == "f":
                    assert np.allclose(answer[name], array, atol=1e-5), item.name
                else:
                    assert answer[name].tolist() == array.tolist()
        targets = [bench.plane.resolve(item.name) for item in sources]
        many = await bench.plane.infer_many(targets, {"x": np.repeat(x, 2, axis=0) + 1})
        assert seen == [1, 1]
        for item, answer in zip(sources, many, strict=True):
            assert not isinstance(answer, Exception)
            expected = GraphSession(item.onnx).run({"x": np.repeat(x, 2, axis=0) + 1})
            for name, array in expected.items():
                if array.dtype.kind == "f":
                    assert np.allclose(answer[name], array, atol=1e-5)
        bench.plane.fold()
        assert all(target.counts.requests == 3 for target in targets)
        assert all(target.resident.hits == 3 for target in targets)
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_evicted_heads_leave_and_the_last_takes_the_backbone_along() -> None:
    async def work() -> None:
        sources = [fused(f"h{seed}", seed=seed, wide=2000) for seed in range(6)]
        bench = Bench(*sources)
        x = np.ones((1, WIDTH), np.float32)
        for item in sources:
            await bench.infer(item.name, x)
        one = bench.plane.resolve("h0").resident
        used = bench.residency.room.used_bytes
        assert used < 3 * len(sources[0].onnx) + 6 * one.memory_bytes + 10**6
        for item in sources[:-1]:
            bench.residency._evict(bench.plane.resolve(item.name).resident)
        assert bench.residency.room.used_bytes == used - 5 * one.memory_bytes
        assert (await bench.infer("h5", x))["probabilities"].shape == (1, 3)
        bench.residency._evict(bench.plane.resolve("h5").resident)
        assert bench.residency.room.used_bytes == 0
        assert (await bench.infer("h1", x))["probabilities"].shape == (1, 3)
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def _hold(lane: Lane) -> tuple[threading.Event, threading.Event]:
    """Let the next run of a lane wait; returns the events that it began and that it may go on."""
    lane.limits = replace(lane.limits, inline_s=0.0)
    runner: Any = lane.runner
    real, begun, gate = runner.run, threading.Event(), threading.Event()

    def run(works: Any) -> Any:
        begun.set()
        assert gate.wait(20)
        return real(works)

    runner.run = run
    return begun, gate


def test_a_head_leaves_while_its_backbone_is_busy_and_what_it_was_asked_is_still_answered() -> None:
    async def work() -> None:
        sources = [fused(f"h{seed}", seed=seed) for seed in range(4)]
        bench = Bench(*sources)
        x = np.ones((1, WIDTH), np.float32)
        residents = [bench.plane.resolve(item.name).resident for item in sources]
        for item in sources:
            await bench.infer(item.name, x)
        lane = residents[0].lane
        assert lane is not None
        begun, gate = _hold(lane)
        asked = [asyncio.ensure_future(bench.infer(name, x)) for name in ("h0", "h1")]
        await asyncio.to_thread(begun.wait, 20)
        assert not lane.idle
        bench.residency.unload(residents[1])
        assert residents[1].lane is None
        assert bench.residency.room.evict_down_to(bench.residency.room.used_bytes - 1, keep=None)
        # The last one keeps the backbone: it stays while that runs.
        bench.residency.room.evict_down_to(0, keep=None)
        assert [item.lane is not None for item in residents].count(True) == 1
        # A newcomer gets no slot that a run under way still reads.
        late = [asyncio.ensure_future(bench.infer(item.name, x)) for item in sources if item.name != "h1"]
        await asyncio.sleep(0.2)
        gate.set()
        for item, answer in zip(sources[:2], await asyncio.gather(*asked), strict=True):
            expected = GraphSession(item.onnx).run({"x": x})
            assert np.allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)
        for item, answer in zip([sources[0], *sources[2:]], await asyncio.gather(*late), strict=True):
            expected = GraphSession(item.onnx).run({"x": x})
            assert np.allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_quarantined_head_spoils_no_other_heads_requests() -> None:
    async def work() -> None:
        sources = [fused(f"h{seed}", seed=seed) for seed in range(2)]
        bench = Bench(*sources, threads=1)
        x = np.ones((1, WIDTH), np.float32)
        for item in sources:
            await bench.infer(item.name, x)
        lane = bench.plane.resolve("h0").resident.lane
        assert lane is not None
        begun, gate = _hold(lane)
        running_now = asyncio.ensure_future(bench.infer("h0", x))
        await asyncio.to_thread(begun.wait, 20)
        asked = [asyncio.ensure_future(bench.infer(name, x)) for name in ("h0", "h1", "h0", "h1")]
        await asyncio.sleep(0.05)
        bench.residency.quarantine(bench.plane.resolve("h1").resident, "for a test")
        gate.set()
        await running_now
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, Quarantined) for answer in answers] == [False, True, False, True]
        assert not any(isinstance(answers[index], BaseException) for index in (0, 2))
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_several_models_at_once_over_http(tmp_path: Path) -> None:
    from serving_kit import adder

    sources = [fused(f"h{seed}", seed=seed) for seed in range(5)]
    broken = fused("broken", seed=9)
    with running(tmp_path, [*sources, broken, adder()]) as server:
        server.on_loop(
            lambda: server.server.residency.quarantine(
                server.server.plane.resolve("broken").resident, "for a test"
            )
        )
        rows = [{"x": [0.5] * WIDTH}, {"x": [0.1] * WIDTH}]
        names = [item.name for item in sources] + ["broken"]
        status, body, _ = server.request("POST", "/v1/predict", {"models": names, "rows": rows})
        assert status == 200
        for item in sources:
            single = server.request("POST", f"/v1/models/{item.name}/predict", {"rows": rows})[1][
                "predictions"
            ]
            together = body["models"][item.name]["predictions"]
            for one, other in zip(single, together, strict=True):
                assert one["label"] == other["label"]
                assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        assert "quarantined" in body["models"]["broken"]["error"]
        mixed = server.request("POST", "/v1/predict", {"models": ["h0", "adder"], "rows": rows})
        assert mixed[0] == 400 and "different inputs" in mixed[1]["error"]
        assert server.request("POST", "/v1/predict", {"models": [], "rows": rows})[0] == 400
        assert server.request("POST", "/v1/predict", {"models": ["nothing"], "rows": rows})[0] == 404


def test_many_heads_asked_at_once_over_http_answer_as_each_alone_does(tmp_path: Path) -> None:
    """Heads of three kinds and two shapes, in any order, some twice, one and two rows."""
    made = [fused(f"h.{seed}", seed=seed, classes=classes) for seed, classes in enumerate((3, 2, 0, 3, 3))]
    columns = tuple(f"c{index}" for index in range(WIDTH))
    sources = []
    for item in made:
        inputs = tuple(replace(tensor, columns=columns) for tensor in item.signature.inputs)
        sources.append(replace(item, signature=replace(item.signature, inputs=inputs)))
    with running(tmp_path, sources, observe_share=0.5) as server:
        names = [item.name for item in sources]
        rows = [dict.fromkeys(columns, 0.5), {name: float(i) / WIDTH for i, name in enumerate(columns)}]
        requests = 0
        for asked in (names, names[::-1], [names[3], names[3]], names[:1], names):
            requests += names[3] in asked
            body = {"models": asked, "rows": rows[: 1 + len(asked) % 2]}
            status, together, _ = server.request("POST", "/v1/predict", body)
            assert status == 200, together
            assert set(together["models"]) == set(asked)
            for name in asked:
                alone = server.request("POST", f"/v1/models/{quote(name)}/predict", {"rows": body["rows"]})[1]
                requests += name == names[3]
                found = together["models"][name]
                assert found["version"] == alone["version"]
                for one, other in zip(found["predictions"], alone["predictions"], strict=True):
                    assert one.keys() == other.keys()
                    assert one.get("label") == other.get("label")
                    for key in one.keys() - {"label"}:
                        assert one[key] == pytest.approx(other[key], abs=1e-5)
        targets = [server.server.plane.resolve(name) for name in names]
        assert len({id(target.resident.lane) for target in targets}) == 1
        server.on_loop(server.server.plane.fold)
        counts = targets[3].counts
        assert counts.requests == counts.latency.count == counts.batch.count == requests


def test_a_head_that_overflows_fails_alone(tmp_path: Path) -> None:
    sources = [fused(f"h{seed}", seed=seed) for seed in range(3)]

    async def work() -> None:
        bench = Bench(*sources)
        targets = [bench.plane.resolve(item.name) for item in sources]
        x = np.ones((1, WIDTH), np.float32)
        await bench.plane.infer_many(targets, {"x": x})
        runner: Any = targets[0].resident.lane.runner  # type: ignore[union-attr]
        group = next(iter(runner.stack._groups.values()))
        place = targets[1].resident.place
        assert place is not None
        group.weights[place.slot] = np.inf
        answers = await bench.plane.infer_many(targets, {"x": x + 1})
        assert [isinstance(answer, NonFiniteAnswer) for answer in answers] == [False, True, False]
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))
