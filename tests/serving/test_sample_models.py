"""Models of texts, images and series behind the row-wise door: read, answered, logged, refused with a cause."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from onnx import helper
from serving_kit import graph, running, source

from modelworks.core.signature import Tensor
from modelworks.serving.model import MemorySource


def length_of_text() -> MemorySource:
    """``prediction`` = number of characters."""
    inputs = [Tensor(name="characters", datatype="INT64", shape=(-1, -1), columns=("review",))]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    nodes = [
        helper.make_node("GreaterOrEqual", ["characters", "zero"], ["there"]),
        helper.make_node("Cast", ["there"], ["ones"], to=1),
        helper.make_node("ReduceSum", ["ones", "axes"], ["prediction"], keepdims=0),
    ]
    constants = {"zero": np.array(0, np.int64), "axes": np.array([1], np.int64)}
    return source("length", graph(nodes, inputs, outputs, constants), inputs, outputs)


def known_values() -> MemorySource:
    """``prediction`` = number of values of a series that are not missing."""
    inputs = [Tensor(name="series", datatype="FP32", shape=(-1, 2, 4), columns=("signal",))]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    nodes = [
        helper.make_node("IsNaN", ["series"], ["missing"]),
        helper.make_node("Not", ["missing"], ["known"]),
        helper.make_node("Cast", ["known"], ["ones"], to=1),
        helper.make_node("ReduceSum", ["ones", "axes"], ["prediction"], keepdims=0),
    ]
    constants = {"axes": np.array([1, 2], np.int64)}
    return source("known", graph(nodes, inputs, outputs, constants), inputs, outputs)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Any]:
    with running(home, [length_of_text(), known_values()], audit_share=1.0) as server:
        yield server


def predict(served: Any, model: str, rows: Any, **more: Any) -> tuple[int, Any]:
    status, answer, _ = served.request("POST", f"/v1/models/{model}/predict", {"rows": rows, **more})
    return status, answer


def test_texts_of_any_length_are_answered(served: Any) -> None:
    status, answer = predict(
        served, "length", [{"review": "good"}, {"review": "größer 🙂"}, {"review": ""}, {}]
    )
    assert status == 200, answer
    assert [item["prediction"] for item in answer["predictions"]] == [4, 8, 0, 0]


def test_series_may_be_short_or_have_gaps(served: Any) -> None:
    rows = [{"signal": [[1, 2, 3, 4], [5, 6, 7, 8]]}, {"signal": [[1, None, 3], [4, 5, None]]}]
    status, answer = predict(served, "known", rows)
    assert status == 200, answer
    assert [item["prediction"] for item in answer["predictions"]] == [8, 4]


@pytest.mark.parametrize(
    ("model", "row", "text"),
    [
        ("length", {"review": 7}, "MW1105: Column 'review': row 0: expected a text, got 7."),
        ("length", {"reviw": "x"}, "Did you mean 'review'?"),
        (
            "known",
            {"signal": [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]},
            "Column 'signal': row 0: expected 2 channel(s)",
        ),
        ("known", {"signal": [[1, 2], [3, 1e39]]}, "MW1"),
        ("known", {"signal": "abc"}, "Column 'signal'"),
    ],
)
def test_bad_samples_get_a_cause(served: Any, model: str, row: dict[str, Any], text: str) -> None:
    status, answer = predict(served, model, [row])
    assert status == 400, answer
    assert text in answer["error"]


def test_rows_that_are_far_too_wide_or_empty_are_refused(served: Any) -> None:
    wide = {f"c{number}": 1 for number in range(100_000)}
    status, answer = predict(served, "length", [wide])
    assert (status, answer["error"][:6]) == (400, "MW1104")
    assert len(answer["error"]) < 500
    for rows in ([], None, {}, "x", [[]], [None]):
        assert predict(served, "length", rows)[0] == 400


def test_a_text_is_explained_by_its_words(served: Any) -> None:
    status, answer = predict(served, "length", [{"review": "very good, yes"}], explain=True)
    assert status == 200, answer
    found = answer["explanations"][0]
    worth = {item["column"]: item["contribution"] for item in found["contributions"]}
    assert worth == pytest.approx({"very": 5, "good,": 6, "yes": 3}) and found["base"] == 0


def test_a_series_is_explained_by_its_stretches(served: Any) -> None:
    rows = [{"signal": [[1, 2, 3, 4], [4, 5, 6, 7]]}]
    status, answer = predict(served, "known", rows, explain=True)
    assert status == 200, answer
    assert {item["contribution"] for item in answer["explanations"][0]["contributions"]} == {0.0}


@pytest.mark.parametrize(
    ("rows", "text"), [([{"review": ""}], "empty text"), ([{"review": "a"}] * 3, "at most 2 are")]
)
def test_what_cannot_be_explained_gets_a_cause(served: Any, rows: Any, text: str) -> None:
    status, answer = predict(served, "length", rows, explain=True)
    assert status == 400 and answer["error"].startswith("MW1420")
    assert text in answer["error"]


def test_texts_are_logged_as_texts_and_series_as_values(tmp_path: Path) -> None:
    with running(tmp_path, [length_of_text(), known_values()], audit_share=1.0) as server:
        assert predict(server, "length", [{"review": "größer 🙂"}], key="a")[0] == 200
        assert predict(server, "known", [{"signal": [[1, 2], [3, None]]}], key="b")[0] == 200
    rows = {
        name: pq.read_table(next((tmp_path / "observations" / name).glob("*.parquet"))).to_pylist()[0]
        for name in ("length", "known")
    }
    assert rows["length"]["in.review"] == "größer 🙂"
    assert (rows["length"]["out.prediction"], rows["length"]["key"]) == (8.0, "a")
    assert rows["known"]["in.signal"]["shape"] == [2, 4]
