"""Rows in, words out; causes a person understands; explanations; outcomes; metrics; logs."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from serving_kit import adder, echo, graph, logarithm, make_package, running, source

from modelworks.core.clock import ManualClock
from modelworks.core.errors import ModelworksError
from modelworks.core.signature import Signature, Tensor
from modelworks.serving.access import add_token
from modelworks.serving.model import MemorySource
from modelworks.serving.observations import ObservationLog
from modelworks.serving.observed import ObservationLimits
from modelworks.serving.rest import coding
from modelworks.serving.rest.access_log import AccessLogger
from modelworks.serving.rows import RowReader, predictions

MIXED = Signature(
    inputs=(
        Tensor(name="numbers", datatype="FP32", shape=(-1, 2), columns=("age", "Annual income ($)")),
        Tensor(name="strings", datatype="BYTES", shape=(-1, 1), columns=("city",)),
        Tensor(name="datetimes", datatype="INT64", shape=(-1, 1), columns=("joined",)),
    ),
    outputs=(
        Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),
        Tensor(name="label", datatype="BYTES", shape=(-1,)),
    ),
    classes=("no", "yes"),
)


def classifier() -> MemorySource:
    """age > 40 or city == "Bern" tips the scale; knows all three kinds of columns."""
    floats = {"values_floats": [2.0], "default_float": 0.0}
    nodes = [
        helper.make_node("Gather", ["numbers", "zero"], ["age"], axis=1),
        helper.make_node("IsNaN", ["age"], ["missing"]),
        helper.make_node("Where", ["missing", "middle", "age"], ["filled"]),
        helper.make_node("LabelEncoder", ["strings"], ["bern"], domain="ai.onnx.ml", keys_strings=["Bern"], **floats),
        helper.make_node("Flatten", ["bern"], ["bern2"]),
        helper.make_node("Sub", ["filled", "middle"], ["older"]),
        helper.make_node("Mul", ["older", "slope"], ["score1"]),
        helper.make_node("Add", ["score1", "bern2"], ["score"]),
        helper.make_node("Cast", ["datetimes"], ["when"], to=1),
        helper.make_node("Mul", ["when", "nought"], ["nothing"]),
        helper.make_node("Add", ["score", "nothing"], ["total"]),
        helper.make_node("Sigmoid", ["total"], ["yes"]),
        helper.make_node("Sub", ["one", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "best"], ["label"]),
    ]  # fmt: skip
    constants = {
        "zero": np.array([0], np.int64), "middle": np.array(40, np.float32), "slope": np.array(0.1, np.float32),
        "one": np.array(1, np.float32), "nought": np.array(0, np.float32),
        "classes": np.array([b"no", b"yes"], dtype=object),
    }  # fmt: skip
    onnx = graph(nodes, list(MIXED.inputs), list(MIXED.outputs), constants)
    made = source("churn", onnx, list(MIXED.inputs), list(MIXED.outputs), classes=("no", "yes"))
    rows = [
        {"age": 20.0 + 5 * index, "city": "Bern" if index % 2 else "Basel", "joined": 0} for index in range(8)
    ]
    blank = {"age": None, "city": None, "joined": None}
    return MemorySource(
        name=made.name, digest=made.digest, signature=made.signature, onnx=made.onnx,
        examples={"rows": [*rows, blank, blank, blank], "expected": _expected(onnx, [*rows, blank, blank, blank]),
                  "tolerance": {"absolute": 1e-5, "relative": 1e-4}},
    )  # fmt: skip


def _expected(onnx: bytes, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from modelworks.compute.feeds import pack_rows
    from modelworks.compute.runtime import GraphSession

    answer = GraphSession(onnx).run(pack_rows(MIXED, rows))
    return {name: array.tolist() for name, array in answer.items()}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("home")
    with running(
        home, [classifier(), adder(), logarithm(), echo("FP32", (-1, 2))], audit_share=0.0, access_log="off"
    ) as server:
        yield server


def _predict(server: Any, rows: Any, model: str = "churn", **more: Any) -> tuple[int, Any]:
    return server.request("POST", f"/v1/models/{model}/predict", {"rows": rows, **more})[:2]


def test_rows_are_answered_in_words(served: Any) -> None:
    row = {"age": 31, "Annual income ($)": 1e5, "city": "Bern", "joined": "2024-03-01T12:00:00Z"}
    status, body = _predict(served, [row, {"age": 60}, {}], id="r1")
    assert status == 200, body
    assert (body["model"], body["version"], body["id"]) == ("churn", "1", "r1")
    assert [item["label"] for item in body["predictions"]] == ["yes", "yes", "no"]
    probabilities = body["predictions"][0]["probabilities"]
    assert set(probabilities) == {"no", "yes"}
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"age": "abc"}], "MW1105: Row 0, column 'age': expected a number, got 'abc'."),
        ([{"age": 1}, {"age": [1]}], "MW1105: Row 1, column 'age': expected a number, got [1]."),
        ([{"city": {"x": 1}}], "MW1105: Row 0, column 'city': expected a text, got {'x': 1}."),
        (
            [{"joined": "yesterday"}],
            "MW1105: Row 0, column 'joined': expected an ISO 8601 date-time, got 'yesterday'.",
        ),
        ([{"agee": 1}], "MW1104: Row 0: the model has no column 'agee'. Did you mean 'age'?"),
        ([], "MW1409: The request has no rows."),
        ({"age": 1}, "MW1402: 'rows' is not a list of objects"),
        ([1, 2], "MW1402: 'rows' is not a list of objects"),
        ([{"age": 1e39}], "MW1407: Input 'numbers', row 0, column 'age': a value is infinite."),
    ],
)
def test_bad_rows_get_a_cause_a_person_understands(served: Any, rows: Any, text: str) -> None:
    status, body = _predict(served, rows)
    assert (status, body["error"][: len(text)]) == (400, text)


def test_bodies_that_are_no_prediction(served: Any) -> None:
    for body in (
        b"",
        b"[]",
        b"{}",
        b'{"rows": [{}], "nonsense": 1}',
        b'{"rows": NaN}',
        b"\xff",
        b'{"rows": [{}]',
    ):
        status, answer, _ = served.request("POST", "/v1/models/churn/predict", body)
        assert status == 400, (body, answer)


def test_tensor_models_take_rows_too(served: Any) -> None:
    status, body = _predict(served, [{"x": [1, 2]}, {"x": [3, 4]}], "echo_fp32")
    assert (status, body["predictions"]) == (200, [{"y": [1.0, 2.0]}, {"y": [3.0, 4.0]}])
    assert "nested lists" in _predict(served, [{"x": [1, 2]}, {"x": [3]}], "echo_fp32")[1]["error"]
    assert "no input 'z'" in _predict(served, [{"z": 1}], "echo_fp32")[1]["error"]
    assert "is missing" in _predict(served, [{}], "echo_fp32")[1]["error"]


def test_an_answer_that_is_not_finite_is_an_error_and_counted(served: Any) -> None:
    status, body = _predict(served, [{"x": -1}], "logarithm")
    assert status == 422 and "not finite" in body["error"]
    text = served.request("GET", "/metrics")[1].decode()
    assert 'modelworks_errors_total{model="logarithm",version="1",code="MW5410"} 1' in text


def test_explanations_add_up_and_name_their_method(served: Any) -> None:
    row = {"age": 70, "Annual income ($)": 5.0, "city": "Bern", "joined": 0}
    status, body = _predict(served, [row], explain=True)
    assert status == 200, body
    explanation = body["explanations"][0]
    assert explanation["method"]
    contributions = {item["column"]: item["contribution"] for item in explanation["contributions"]}
    assert explanation["answer"] == "yes"
    total = explanation["base"] + sum(contributions.values())
    assert total == pytest.approx(body["predictions"][0]["probabilities"]["yes"], abs=1e-4)
    assert contributions["age"] > 0.05 and contributions["city"] > 0.05
    assert contributions["Annual income ($)"] == pytest.approx(0, abs=1e-6)
    assert _predict(served, [{}] * 9, explain=True)[0] == 400
    assert _predict(served, [{"x": [1, 2]}], "echo_fp32", explain=True)[0] == 400


def test_model_cards(served: Any) -> None:
    names = {model["name"] for model in served.request("GET", "/v1/models")[1]["models"]}
    assert names == {"churn", "adder", "logarithm", "echo_fp32"}
    card = served.request("GET", "/v1/models/churn")[1]
    assert card["classes"] == ["no", "yes"]
    assert card["inputs"][0]["columns"] == ["age", "Annual income ($)"]
    assert served.request("GET", "/v1/models/nothing")[0] == 404


def test_outcomes_are_kept_by_key(served: Any) -> None:
    sent = [{"key": "c-1", "value": "yes"}, {"key": "c-2", "value": "no", "row": 1, "kind": "correction"}]
    assert served.request("POST", "/v1/models/churn/outcomes", sent)[0] == 202
    lines = (
        (served.server.settings.home / "observations" / "churn" / "outcomes-1.jsonl").read_text().splitlines()
    )
    kept = [json.loads(line) for line in lines]
    assert [(item["key"], item["value"], item["by"]) for item in kept] == [
        ("c-1", "yes", "local"),
        ("c-2", "no", "local"),
    ]
    for bad in (
        {"key": "", "value": 1},
        {"key": "a", "value": 1, "kind": "rumour"},
        {"key": "a"},
        {"key": "a", "value": "x" * 20_000},
    ):
        assert served.request("POST", "/v1/models/churn/outcomes", bad)[0] == 400


def test_metrics_are_prometheus_text(served: Any) -> None:
    served.infer("adder", [[1, 2, 3]])
    status, data, headers = served.request("GET", "/metrics")
    text = data.decode()
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    seen_types = {}
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            assert name not in seen_types
            seen_types[name] = kind
        elif not line.startswith("#"):
            assert re.fullmatch(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+', line), line
    buckets = [
        (float(le) if le != "+Inf" else math.inf, int(count))
        for le, count in re.findall(
            r'request_seconds_bucket\{model="adder",version="1",le="([^"]+)"\} (\d+)', text
        )
    ]
    assert buckets == sorted(buckets)
    count = int(re.findall(r'request_seconds_count\{model="adder",version="1"\} (\d+)', text)[0])
    assert buckets[-1] == (math.inf, count) and count >= 1
    assert 'modelworks_model_memory_bytes{model="adder"' in text


def test_status_has_what_top_shows(served: Any) -> None:
    served.infer("adder", [[1, 2, 3]])
    state = served.request("GET", "/v1/status")[1]
    entry = next(item for item in state["endpoints"] if item["name"] == "adder")
    assert entry["versions"][0]["requests"] >= 1
    assert state["models"]["loaded"] >= 1 and state["resident_mb"] > 10


# -- pure parts --------------------------------------------------------------------------------------------------

_NUMBER = st.one_of(st.none(), st.integers(-(2**40), 2**40), st.floats(-1e30, 1e30), st.just(""))
_TEXT = st.one_of(st.none(), st.text(max_size=8), st.integers(-9, 9), st.booleans())
_TIME = st.one_of(
    st.none(), st.integers(-(2**50), 2**50), st.sampled_from(["2024-01-02", "2024-01-02T03:04:05+02:00", ""])
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {}, optional={"age": _NUMBER, "Annual income ($)": _NUMBER, "city": _TEXT, "joined": _TIME}
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=200, deadline=None)
def test_the_quick_reader_reads_what_the_slow_one_reads(rows: list[dict[str, Any]]) -> None:
    reader = RowReader(MIXED)
    quick = reader.read(json.dumps(rows).encode())
    slow = reader.pack(rows)
    for name, array in slow.items():
        assert quick[name].dtype == array.dtype
        assert np.array_equal(quick[name], array, equal_nan=array.dtype.kind == "f")


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_as_rows_end_in_our_own_error(data: bytes) -> None:
    reader = RowReader(MIXED)
    try:
        reader.read(data)
    except ModelworksError as error:
        assert error.error_code.startswith("MW1")


def test_other_kinds_of_answers() -> None:
    labels = Signature(
        inputs=(),
        outputs=(
            Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),
            Tensor(name="labels", datatype="BOOL", shape=(-1, 2)),
        ),
        classes=("a", "b"),
    )
    answer = {"probabilities": np.array([[0.25, 0.75]], np.float32), "labels": np.array([[False, True]])}
    assert predictions(labels, answer) == [{"probabilities": {"a": 0.25, "b": 0.75}, "labels": ["b"]}]
    interval = Signature(
        inputs=(),
        outputs=(
            Tensor(name="prediction", datatype="FP32", shape=(-1,)),
            Tensor(name="quantiles", datatype="FP32", shape=(-1, 2)),
        ),
        quantiles=(0.1, 0.9),
    )
    answer = {"prediction": np.array([2.0], np.float32), "quantiles": np.array([[1.0, 3.0]], np.float32)}
    assert predictions(interval, answer) == [{"prediction": 2.0, "quantiles": {"0.1": 1.0, "0.9": 3.0}}]


# -- observations ------------------------------------------------------------------------------------------------


def _read(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("seen-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_observations_hold_inputs_outputs_and_keys_and_redact(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_package(home, "adder", 1.0)
    with running(home, packages=(home / "adder-1",), observe_share=1.0, audit_share=0.5) as server:
        server.request("POST", "/v1/endpoints/adder/configure", {"redact": ["c1"]})
        for number in range(40):
            _predict(server, [{"c0": number, "c1": 5, "c2": 0}, {"c0": 0}], "adder", key=f"k{number}")
        status = server.request("GET", "/v1/status")[1]
    rows = _read(home / "observations" / "adder")
    assert len(rows) == 80
    assert status["observations"]["dropped"] == 0
    first = [row for row in rows if row["key"] == "k7"]
    assert [row["row"] for row in first] == [0, 1]
    assert (first[0]["in.c0"], first[0]["in.c1"], first[0]["out.prediction"]) == (7.0, None, 13.0)
    assert math.isnan(first[1]["in.c2"])
    assert 5 < sum(row["audit"] for row in rows if row["row"] == 0) < 35
    assert {row["version"] for row in rows} == {"1"} and all(len(row["digest"]) == 64 for row in rows)


class _Target:
    endpoint, number, digest = "e", "1", "d" * 64
    signature = Signature(
        inputs=(Tensor(name="x", datatype="FP32", shape=(-1, -1)),),
        outputs=(Tensor(name="y", datatype="FP32", shape=(-1,)),),
    )

    class policy:
        settings: ClassVar[dict[str, Any]] = {}


class _Work:
    def __init__(self, width: int = 2) -> None:
        self.feeds = {"x": np.ones((1, width), np.float32)}


def _offer(log: ObservationLog, work: Any = None) -> None:
    log.offer(_Target, work or _Work(), {"y": np.ones(1, np.float32)}, None, 0.001)  # type: ignore[arg-type]


def test_the_audit_share_is_uniform_and_the_queue_is_bounded(tmp_path: Path) -> None:
    log = ObservationLog(
        tmp_path, observe_share=0.0, audit_share=0.01, limits=ObservationLimits(waiting=100_000), seed=5
    )
    for _ in range(20_000):
        _offer(log)
    log.close()
    assert 150 < len(_read(tmp_path / "e")) < 250
    log = ObservationLog(
        tmp_path / "b", observe_share=1.0, audit_share=0.0, limits=ObservationLimits(waiting=10)
    )
    log._thread.name = "slow"
    started = time.perf_counter()
    for _ in range(5000):
        _offer(log)
    assert time.perf_counter() - started < 5
    log.close()
    assert log.counts.dropped > 0
    assert log.counts.written + log.counts.dropped == 5000


def test_a_log_that_cannot_be_written_is_counted_and_nothing_else(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    log = ObservationLog(blocked, observe_share=1.0, audit_share=0.0, limits=ObservationLimits(flush_s=0.05))
    _offer(log)
    deadline = time.monotonic() + 10
    while not log.counts.failed and time.monotonic() < deadline:
        time.sleep(0.02)
    log.close()
    assert log.counts.failed == 1 and log.counts.written == 0


def test_large_tensors_are_kept_as_their_digest_and_old_files_go(tmp_path: Path) -> None:
    clock = ManualClock(wall=time.time())
    log = ObservationLog(tmp_path, observe_share=1.0, audit_share=0.0, clock=clock)
    _offer(log, _Work(5000))
    log.close()
    kept = _read(tmp_path / "e")[0]["in.x"]
    assert kept["values"] is None and len(kept["sha256"]) == 64 and kept["shape"] == [5000]
    clock.advance(91 * 86_400)
    log = ObservationLog(tmp_path, observe_share=1.0, audit_share=0.0, clock=clock)
    log._sweep()
    log.close()
    assert _read(tmp_path / "e") == []


def test_the_access_log_is_json_lines_without_secrets(tmp_path: Path) -> None:
    with running(tmp_path, [adder()], access_log="off") as server:
        stream = io.StringIO()
        logger = AccessLogger(errors_only=False, stream=stream)
        server.on_loop(lambda: setattr(server.server.application, "log", logger))
        server.infer("adder", [[1, 2, 3]])
        server.request("GET", "/v2/models/missing", headers={"x-request-id": "abc"})
        anna = add_token(tmp_path / "keys", name="anna", role="infer")
        server.on_loop(server.server.access.reload)
        server.request("GET", "/metrics", headers={"Authorization": f"Bearer {anna}"}, token=None)
        logger.close()
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [(line["path"], line["status"]) for line in lines] == [
            ("/v2/models/adder/infer", 200),
            ("/v2/models/missing", 404),
            ("/metrics", 403),
        ]
        assert lines[2]["who"] == "anna", "what a known token may not do has a name to ask"
        assert lines[1]["id"] == "abc" and lines[0]["who"] == "local" and lines[0]["ms"] >= 0
        assert server.token not in stream.getvalue()


@pytest.mark.parametrize("rows", [500, 4090])
def test_a_long_answer_is_compressed_for_who_takes_that(tmp_path: Path, rows: int) -> None:
    """Above a size it is done in a thread."""
    with running(tmp_path, [adder()]) as server:
        body = {"rows": [{"c0": index * 1.1, "c1": 0.123, "c2": 0} for index in range(rows)]}
        plain = server.request("POST", "/v1/models/adder/predict", body)[1]
        status, packed, headers = server.request(
            "POST", "/v1/models/adder/predict", body, headers={"Accept-Encoding": "gzip"}
        )
        assert status == 200 and headers["content-encoding"] == "gzip"
        assert (len(json.dumps(plain, separators=(",", ":"))) > coding.THREAD_FROM) is (rows > 500)
        assert json.loads(gzip.decompress(packed)) == plain
        short = server.request(
            "POST",
            "/v1/models/adder/predict",
            {"rows": body["rows"][:1]},
            headers={"Accept-Encoding": "gzip"},
        )
        assert "content-encoding" not in short[2]


@pytest.mark.parametrize("own", [0, 40, 100])
def test_of_many_heads_asked_at_once_each_is_drawn_for_itself(tmp_path: Path, own: int) -> None:
    """``own`` of them have settings of their own, which here say the same."""
    log = ObservationLog(tmp_path, observe_share=0.05, audit_share=0.02, seed=3)
    kept: list[tuple[int, bool]] = []

    def keep(chosen: Any, work: Any, answers: Any, key: Any, latency_s: float) -> None:
        for target, position, audit in chosen:
            assert position == target.number + 1
            kept.append((target.number, audit))

    log._keep = keep  # type: ignore[method-assign]
    targets = tuple(
        SimpleNamespace(
            number=number, policy=SimpleNamespace(settings={"observe": 0.05} if number < own else {})
        )
        for number in range(100)
    )
    asked = SimpleNamespace(
        targets=targets, positions=range(1, 101), own=range(own), plain=range(own, 100)
    )  # fmt: skip
    work: Any = SimpleNamespace(several=asked, key=None)
    for _ in range(2000):
        log.offer_many(work, [{}] * 101, 0.001)
    log.close()
    every = 200_000
    assert len(kept) == pytest.approx(every * (1 - 0.98 * 0.95), rel=0.03)
    assert sum(audit for _, audit in kept) == pytest.approx(every * 0.02, rel=0.06)
    by_head = np.bincount([number for number, _ in kept], minlength=100)
    assert by_head.min() > 80
    assert by_head[0] == pytest.approx(by_head.mean(), rel=0.3)
