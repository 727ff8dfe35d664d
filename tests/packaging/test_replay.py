"""The limited child: it may crash, hang, lie or run out of memory, and the host goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from package_graphs import model, tensor

from modelworks.core.errors import TrustError
from modelworks.core.signature import Signature, Tensor
from modelworks.packaging import Package, ReplayLimits, inspect_graph
from modelworks.packaging import replay as replaying
from modelworks.packaging.replay import Zygote, replay

ROW = Signature(
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 3), columns=("a", "b", "c")),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 3)),),
)
EXAMPLES = {
    "rows": [{"a": 1.0, "b": 2.0, "c": 3.0}],
    "expected": {"y": [[1.0, 2.0, 3.0]]},
    "tolerance": {"absolute": 1e-6, "relative": 1e-6},
}


@pytest.fixture(scope="module")
def stub() -> Iterator[Zygote]:
    zygote = Zygote("stub_child", [Path(__file__).parent], idle_s=600.0)
    yield zygote
    zygote.close()


def told(stub: Zygote, do: str, wall_s: float = 10.0) -> list[dict[str, object]]:
    return stub.ask(json.dumps({"do": do}).encode(), b"model", wall_s)


def echo() -> bytes:
    return model([helper.make_node("Identity", ["x"], ["y"])]).SerializeToString()


def test_what_was_expected_is_confirmed() -> None:
    replayed = replay(echo(), ROW, EXAMPLES, ReplayLimits())
    assert replayed.rows == 1
    assert replayed.graph["operators"] == {"ai.onnx.Identity": 1}
    assert replayed.protections["system_calls"]


@pytest.mark.parametrize(
    "expected", [[[1.0, 2.0, 3.1]], [[1.0, 2.0]], [], [["1", "2", "3"]], None, [[1, 2, True]]]
)
def test_another_answer_is_refused(expected: object) -> None:
    with pytest.raises(TrustError, match="otherwise than"):
        replay(echo(), ROW, {**EXAMPLES, "expected": {"y": expected}}, ReplayLimits())


@pytest.mark.parametrize(
    ("examples", "why"),
    [
        ({}, "lacks"),
        ({**EXAMPLES, "expected": {}}, "lacks"),
        ({**EXAMPLES, "rows": [{"z": 1}]}, "no column 'z'"),
        ({**EXAMPLES, "rows": [{"a": "text"}]}, "expected a number"),
        ({**EXAMPLES, "rows": 3}, "not a list"),
        ({**EXAMPLES, "rows": [3]}, "fails"),
    ],
)
def test_examples_that_do_not_fit_are_refused(examples: dict[str, object], why: str) -> None:
    with pytest.raises(TrustError, match=why):
        replay(echo(), ROW, examples, ReplayLimits())


def test_a_signature_of_another_graph_is_refused() -> None:
    other = replace(ROW, outputs=(Tensor(name="z", datatype="FP32", shape=(-1, 3)),))
    with pytest.raises(TrustError, match="outputs"):
        replay(echo(), other, {**EXAMPLES, "expected": {"z": []}}, ReplayLimits())
    typed = replace(ROW, outputs=(Tensor(name="y", datatype="INT64", shape=(-1, 3)),))
    with pytest.raises(TrustError, match="declares"):
        replay(echo(), typed, EXAMPLES, ReplayLimits())


def test_numbers_that_are_not_finite_are_refused() -> None:
    graph = model([helper.make_node("Log", ["x"], ["y"])]).SerializeToString()
    rows = {**EXAMPLES, "rows": [{"a": -1.0, "b": 1.0, "c": 1.0}]}
    with pytest.raises(TrustError, match="not finite"):
        replay(graph, ROW, rows, ReplayLimits())


def test_a_graph_onnx_runtime_refuses_is_reported_from_the_child() -> None:
    graph = model([helper.make_node("MatMul", ["x", "nowhere"], ["y"])]).SerializeToString()
    with pytest.raises(TrustError, match="ONNX Runtime cannot load"):
        replay(graph, ROW, EXAMPLES, ReplayLimits())


def test_a_graph_that_asks_for_too_much_memory_ends_only_the_child() -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    graph = model(nodes, [tensor("huge", np.array([2**34], np.int64))]).SerializeToString()
    with pytest.raises(TrustError, match=r"golden examples|SIG|MB"):
        replay(graph, ROW, EXAMPLES, ReplayLimits())
    assert inspect_graph(echo())["nodes"] == 1


def test_a_graph_that_computes_for_ever_is_ended_at_the_deadline() -> None:
    shape = tensor("shape", np.array([2048, 2048], np.int64))
    nodes = [
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            ["m0"],
            value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1e-3]),
        )
    ]
    nodes += [helper.make_node("MatMul", [f"m{index}", "m0"], [f"m{index + 1}"]) for index in range(4000)]
    nodes += [
        helper.make_node("ReduceSum", ["m4000"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    graph = model(nodes, [shape]).SerializeToString()
    started = time.monotonic()
    with pytest.raises(TrustError, match=r"within 1 s|SIGXCPU|SIGKILL"):
        replay(graph, ROW, EXAMPLES, ReplayLimits(wall_s=1.0))
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(("do", "exit_code"), [("crash", -11), ("leave", 7), ("memory", 3)])
def test_a_crash_is_seen_and_the_next_request_is_answered(stub: Zygote, do: str, exit_code: int) -> None:
    assert told(stub, do)[-1]["ended"] == {"exit": exit_code, "late": False}
    assert told(stub, "leave")[-1]["ended"] == {"exit": 7, "late": False}
    assert stub.alive


def test_a_child_without_work_goes_to_rest_and_the_next_package_starts_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "_current", None)
    monkeypatch.setattr(replaying, "Zygote", partial(Zygote, idle_s=0.02))
    seen = set()
    # Again and again, at about the moment at which it goes to rest.
    for number in range(6):
        assert inspect_graph(echo())["nodes"] == 1
        assert replaying._current is not None
        seen.add(replaying._current._process.pid)
        time.sleep(0.017 + 0.002 * number)
    assert replaying._current is not None
    assert replaying._current.ended()
    assert len(seen) > 1
    replaying._current.close()


def test_an_abort_is_seen(stub: Zygote) -> None:
    ended = told(stub, "abort")[-1]["ended"]
    assert isinstance(ended, dict)
    assert ended["exit"] < 0


@pytest.mark.parametrize("do", ["sleep", "spin"])
def test_a_hang_is_ended_at_the_deadline(stub: Zygote, do: str) -> None:
    assert told(stub, do, 0.3)[-1]["ended"] == {"exit": -9, "late": True}


@pytest.mark.parametrize("do", ["garbage", "deep"])
def test_what_a_hijacked_child_says_is_not_believed(
    stub: Zygote, do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "_zygote", lambda: stub)
    monkeypatch.setattr(
        stub,
        "ask",
        lambda header, onnx, wall_s, tokenizer: Zygote.ask(
            stub, json.dumps({"do": do}).encode(), onnx, wall_s
        ),
    )
    with pytest.raises(TrustError):
        replay(echo(), ROW, EXAMPLES, ReplayLimits())


def test_nothing_outside_can_be_reached(stub: Zygote) -> None:
    attempts, ended = told(stub, "escape")
    assert attempts
    assert [what for what, stopped in attempts.items() if not stopped] == []
    assert ended == {"ended": {"exit": 0, "late": False}}


def test_threads_share_one_child_without_mixing_answers(package: Package) -> None:
    failures: list[BaseException] = []

    def work(offset: float) -> None:
        graph = model(
            [helper.make_node("Add", ["x", "w"], ["y"])], [tensor("w", np.array([offset], np.float32))]
        ).SerializeToString()
        examples = {**EXAMPLES, "expected": {"y": [[1 + offset, 2 + offset, 3 + offset]]}}
        try:
            for _ in range(5):
                replay(graph, ROW, examples, ReplayLimits())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(float(index),)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_a_killed_zygote_is_replaced(package: Package) -> None:
    package.verify()
    first = replaying._zygote()
    first._process.kill()
    first._process.wait()
    assert package.verify().rows == 6
    assert replaying._zygote() is not first
