"""A faulty canary loses its share within seconds and the champion never fails; without traffic it is held (F18)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from serving_kit import adder, graph, running, source

from modelworks.core.signature import Tensor
from modelworks.serving.counters import VersionCounts
from modelworks.serving.guard import Guard
from modelworks.serving.journal import Journal
from modelworks.serving.model import MemorySource
from modelworks.serving.resident import State


def nan_answers() -> MemorySource:
    """The adder's inputs, but the answer is never finite."""
    plain = adder("sum", 2.0)
    nodes = [
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nan"], ["prediction"]),
    ]
    constants = {"axes": np.array([1], np.int64), "nan": np.array(np.nan, np.float32)}
    inputs, outputs = list(plain.signature.inputs), list(plain.signature.outputs)
    return source("sum", graph(nodes, inputs, outputs, constants), inputs, outputs)


def slow_answers(size: int = 500, products: int = 120) -> MemorySource:
    """The adder's inputs, after a chain of matrix products that depends on them."""
    inputs = [Tensor(name="numbers", datatype="FP32", shape=(-1, 3), columns=("c0", "c1", "c2"))]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    nodes = [
        helper.make_node("ReduceMax", ["numbers"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["matrix", "largest"], ["m0"]),
    ]
    for index in range(products):
        nodes.append(helper.make_node("MatMul", [f"m{index}", "matrix"], [f"m{index + 1}"]))
    nodes += [
        helper.make_node("ReduceMax", [f"m{products}"], ["peak"], keepdims=0),
        helper.make_node("Min", ["peak", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "nothing"], ["prediction"]),
    ]
    constants = {
        "matrix": np.full((size, size), 1.0 / size, np.float32),
        "zero": np.array(0.0, np.float32),
        "axes": np.array([1], np.int64),
    }
    return source("sum", graph(nodes, inputs, outputs, constants), inputs, outputs)


def ask(server: Any, key: int) -> int:
    body = {"rows": [{"c0": 1, "c1": 2, "c2": 3}], "key": f"k{key}"}
    status, answer, _ = server.request("POST", "/v1/models/sum/predict", body)
    if status == 200 and answer["version"] == "1":
        assert answer["predictions"][0]["prediction"] == 7.0
    return int(status)


@pytest.mark.parametrize("fault", ["not finite", "slow"])
def test_a_faulty_canary_is_ended_within_seconds_and_the_reason_is_kept(tmp_path: Path, fault: str) -> None:
    bad = nan_answers() if fault == "not finite" else slow_answers()
    with running(tmp_path, [adder("sum", 1.0)]) as server:
        server.wait(server.server.deployments.deploy(bad, endpoint="sum", actor="test", canary=0.5))
        statuses, ended = [], None
        started = time.monotonic()
        for number in range(100_000):
            statuses.append(ask(server, number))
            if server.server.plane.routes["sum"].canary is None:
                ended = time.monotonic() - started
                break
            assert time.monotonic() - started < 60
        assert ended is not None
        # From then on nobody meets it.
        assert {ask(server, number) for number in range(50)} == {200}
        assert set(statuses) <= ({200, 422} if fault == "not finite" else {200})
        shown = server.request("GET", "/v1/endpoints/sum")[1]
    act = shown["acts"][-1]
    assert (act["actor"], act["verb"]) == ("guard", "rollback")
    assert act["detail"]["canary"]["requests"] > 0
    assert act["detail"]["cause"]
    kept = Journal(tmp_path / "serving" / "deployments.jsonl").endpoints["sum"]
    assert kept.champion == "1"
    assert kept.canary is None


def test_the_guard_can_be_told_to_leave_an_endpoint_alone(tmp_path: Path) -> None:
    with running(tmp_path, [adder("sum", 1.0)]) as server:
        server.request("POST", "/v1/endpoints/sum/configure", {"guard": False})
        server.wait(server.server.deployments.deploy(nan_answers(), endpoint="sum", actor="test", canary=0.5))
        assert {ask(server, number) for number in range(40)} == {200, 422}
        assert server.on_loop(lambda: server.server.guard.look(server.server.plane.routes)) == []


# -- the judgement alone -----------------------------------------------------------------------------------------


@dataclass
class FakeResident:
    state: State = State.READY
    cause: str = ""


@dataclass
class FakeTarget:
    number: str
    digest: str
    counts: VersionCounts = field(default_factory=VersionCounts)
    resident: FakeResident = field(default_factory=FakeResident)


@dataclass
class FakeState:
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class FakeRoute:
    champion: FakeTarget
    canary: FakeTarget | None
    state: FakeState = field(default_factory=FakeState)


def watched() -> tuple[Guard, FakeRoute, Any]:
    guard = Guard()
    route = FakeRoute(FakeTarget("1", "a"), FakeTarget("2", "b"))

    def look() -> list[tuple[str, str, dict[str, Any]]]:
        return guard.look({"sum": route})  # type: ignore[dict-item]

    assert look() == []
    return guard, route, look


def answered(counts: VersionCounts, times: int, seconds: float) -> None:
    for _ in range(times):
        counts.requests += 1
        counts.latency.observe(seconds)


def test_without_traffic_a_canary_is_held() -> None:
    _, route, look = watched()
    answered(route.champion.counts, 1000, 0.001)
    for _ in range(10):
        assert look() == []


def test_faults_that_the_champion_shares_or_the_client_makes_end_nothing() -> None:
    _, route, look = watched()
    assert route.canary is not None
    for _ in range(50):
        route.canary.counts.failed("MW1105")
        route.canary.counts.failed("MW2311")
        route.champion.counts.failed("MW5410")
        route.canary.counts.failed("MW5410")
    assert look() == []


def test_what_happened_before_it_got_its_share_does_not_count() -> None:
    guard = Guard()
    route = FakeRoute(FakeTarget("1", "a"), FakeTarget("2", "b"))
    assert route.canary is not None
    for _ in range(50):
        route.canary.counts.failed("MW5410")
    assert guard.look({"sum": route}) == []  # type: ignore[dict-item]
    answered(route.canary.counts, 50, 0.001)
    assert guard.look({"sum": route}) == []  # type: ignore[dict-item]


def test_a_quarantined_canary_is_ended_at_once() -> None:
    _, route, look = watched()
    assert route.canary is not None
    route.canary.resident = FakeResident(State.QUARANTINED, "it crashed")
    assert look()[0][2]["cause"] == "it is quarantined: it crashed"


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_canary_no_worse_than_its_champion_is_never_ended(
    good: int, bad: int, champion_good: int, champion_more: int
) -> None:
    _, route, look = watched()
    assert route.canary is not None
    # The champion fails at least as large a share of its requests.
    answered(route.canary.counts, good, 0.001)
    answered(route.champion.counts, min(champion_good, good), 0.001)
    for _ in range(bad):
        route.canary.counts.failed("MW5411")
    for _ in range(bad + champion_more):
        route.champion.counts.failed("MW5411")
    assert look() == []
