"""Panels: tables of moments on a grid, frequency and season inferred, gaps as missing values."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from modelworks.core.errors import DataError
from modelworks.data.samples.panel import (
    HOUR,
    find_season,
    infer_frequency,
    panel_of_arrays,
    read_panel,
)


def moments(count: int, step: dt.timedelta) -> list[dt.datetime]:
    return [dt.datetime(2024, 1, 1) + index * step for index in range(count)]


def test_a_long_table_with_gaps_becomes_a_grid() -> None:
    times = moments(10, dt.timedelta(hours=1))
    rows = [(s, t, i + 100 * s, i % 2) for s in (0, 1) for i, t in enumerate(times) if (s, i) != (1, 4)]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(rows))
    shuffled = [rows[index] for index in order]
    table = pa.table(
        {
            "shop": [f"s{row[0]}" for row in shuffled],
            "when": [row[1] for row in shuffled],
            "sold": [row[2] for row in shuffled],
            "open": [row[3] for row in shuffled],
        }
    )
    panel = read_panel(table, ["sold"], time="when", series="shop", known=["open"])
    by_name = dict(zip(panel.names, panel.values, strict=True))
    assert panel.frequency == "hourly" and panel.season == 24 and panel.longer_season == 168
    assert panel.step == HOUR
    assert np.isnan(by_name["s1"][0, 4]) and by_name["s1"][0, 5] == 105
    assert by_name["s0"][0].tolist() == list(range(10))
    assert panel.future[0].shape == (1, 10)
    assert panel.cut(3).lengths.tolist() == [7, 7]


def test_a_wide_table_gives_a_series_per_column() -> None:
    table = pa.table(
        {
            "t": [str(day) for day in np.arange("2024-01-01", "2024-02-01", dtype="M8[D]")],
            "a": np.arange(31),
            "b": np.arange(31) * 2.0,
        }
    )
    panel = read_panel(table, ["a", "b"], time="t")
    assert panel.names == ("a", "b") and panel.frequency == "daily" and panel.season == 7
    assert panel.values[1][0, 3] == 6.0


@pytest.mark.parametrize(
    ("times", "name", "season"),
    [
        (np.arange("2010-01", "2015-01", dtype="M8[M]"), "monthly", 12),
        (np.arange("2010-01", "2015-01", 3, dtype="M8[M]"), "quarterly", 4),
        (np.arange("2024-01-01", "2024-01-09", 5, dtype="M8[m]"), "every 5 minutes", 288),
        (np.arange("2024-01-01", "2025-01-01", 7, dtype="M8[D]"), "weekly", 52),
    ],
)
def test_frequencies(times: np.ndarray, name: str, season: int) -> None:
    found = infer_frequency(times.astype("M8[us]").astype(np.int64))
    assert found[0] == name and found[2] == season


def test_a_season_is_found_without_time() -> None:
    rng = np.random.default_rng(1)
    wave = np.tile([0.0, 5.0, 1.0, 8.0, 2.0], 40) + rng.normal(size=200)
    assert find_season([wave]) == 5
    assert find_season([np.cumsum(rng.normal(size=300))]) == 1
    assert panel_of_arrays([wave]).season == 5


def test_what_cannot_be_read_is_said() -> None:
    table = pa.table({"t": ["2024-01-01", "2024-01-02", "2024-01-03"], "y": [1, 2, 3]})
    with pytest.raises(DataError, match="no column 'z'"):
        read_panel(table, ["z"])
    with pytest.raises(DataError, match="time stamps"):
        read_panel(table, ["y"], time="y")
    far = pa.array([0, 1, 2, 10**14], pa.timestamp("us"))
    with pytest.raises(DataError, match="grid"):
        read_panel(pa.table({"t": far, "y": [1, 2, 3, 4]}), ["y"], time="t")
