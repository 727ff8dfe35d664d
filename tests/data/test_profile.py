"""Column statistics against numpy; associations that rank what matters; plain JSON for any table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.data import profile
from modelworks.data import profiling as profiling_module
from modelworks.data.bins import bin_numbers, uncertainty
from modelworks.data.kinds import infer_schema


def _column(table: pa.Table, name: str, *targets: str) -> dict:
    found = profile(table, infer_schema(table), targets)
    json.dumps(found, allow_nan=False)
    return next(column for column in found["columns"] if column["name"] == name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.floats(-1e12, 1e12), min_size=1, max_size=200))
def test_number_statistics_agree_with_numpy(cells: list[float | None]) -> None:
    table = pa.table({"x": pa.array(cells, pa.float64())})
    column = _column(table, "x")
    values = np.array([cell for cell in cells if cell is not None])
    assert column["missing"] == cells.count(None)
    assert column["distinct"] == len(np.unique(values))
    if column["kind"] != "number":
        return
    assert column["mean"] == pytest.approx(values.mean(), rel=1e-9, abs=1e-6)
    assert column["sd"] == pytest.approx(values.std(), rel=1e-6, abs=1e-6)
    assert (column["min"], column["max"]) == (values.min(), values.max())
    assert sum(column["histogram"]["counts"]) == len(values)
    if len(column["histogram"]["counts"]) > 1:
        expected, _ = np.histogram(values, bins=np.array(column["histogram"]["edges"]))
        assert column["histogram"]["counts"] == expected.tolist()


def test_levels_moments_and_text() -> None:
    words = ["red"] * 50 + ["green"] * 30 + ["blue"] * 20
    table = pa.table(
        {
            "colour": words,
            "when": pa.array([index * 86_400_000_000 for index in range(100)], pa.timestamp("us")),
            "note": [f"parcel {index} never came to the door" for index in range(100)],
        }
    )
    assert _column(table, "colour")["top"] == [["red", 50], ["green", 30], ["blue", 20]]
    assert _column(table, "colour")["other"] == 0
    when = _column(table, "when")
    assert (when["first"], when["last"]) == ("1970-01-01T00:00:00", "1970-04-10T00:00:00")
    assert sum(when["histogram"]["counts"]) == 100
    assert _column(table, "note")["words"] == 7
    assert len(_column(table, "note")["examples"]) == 3


def test_large_tables_are_sampled_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling_module, "SAMPLED_ABOVE", 1000)
    table = pa.table({"x": np.arange(5000) * 0.5})
    found = profile(table, infer_schema(table))
    assert found["rows"] == 5000
    assert found["sampled"] == 1000
    assert sum(found["columns"][0]["histogram"]["counts"]) == 1000


def test_association_ranks_what_matters_and_is_near_zero_for_noise() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=4000)
    table = pa.table(
        {
            "cause": x,
            "weak": x + 3 * generator.normal(size=4000),
            "noise": generator.normal(size=4000),
            "many": [f"k{index}" for index in generator.integers(0, 500, 4000)],
            "copy": np.where(x > 0, "up", "down"),
            "y": (x > 0).astype(int),
            "z": x**3 + 0.01 * generator.normal(size=4000),
        }
    )
    found = profile(table, infer_schema(table), ("y", "z"))
    scores = {column["name"]: column["associations"] for column in found["columns"]}
    by_y = {name: score["y"] for name, score in scores.items() if "y" in score}
    assert by_y["copy"] == pytest.approx(1, abs=0.01)
    assert by_y["cause"] > 0.9 > by_y["weak"] > by_y["noise"]
    assert by_y["noise"] < 0.01
    assert by_y["many"] < 0.02
    assert scores["cause"]["z"] > 0.75
    assert scores["noise"]["z"] < 0.02
    assert "y" not in scores["y"]


def test_uncertainty_of_known_tables() -> None:
    assert uncertainty(np.array([[50.0, 0], [0, 50]])) == pytest.approx(1, abs=0.02)
    assert uncertainty(np.array([[25.0, 25], [25, 25]])) == 0
    assert uncertainty(np.array([[10.0, 0], [20, 0]])) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.floats(-1e9, 1e9) | st.just(float("nan")) | st.integers(0, 5).map(float), min_size=1, max_size=300
    )
)
def test_bins_keep_order_and_missing_apart(cells: list[float]) -> None:
    values = np.array(cells)
    binned = bin_numbers(values, 8)
    assert np.array_equal(binned.codes == 0, np.isnan(values))
    assert binned.codes.max() < binned.bins
    present = ~np.isnan(values)
    order = np.argsort(values[present], kind="stable")
    assert np.all(np.diff(binned.codes[present][order]) >= 0)
    if binned.exact:
        for code in np.unique(binned.codes[present]):
            assert len(np.unique(values[binned.codes == code])) == 1


def test_public_tables_become_plain_json(read, shared_data: Path) -> None:
    for file, target in (
        ("titanic/titanic.csv", "survived"),
        ("nyc311_animals/311_Animals_short.csv.gz", "Descriptor"),
    ):
        table, schema, _ = read(shared_data / file)
        found = profile(table, schema, (target,))
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert [column["name"] for column in found["columns"]] == list(schema.names)
