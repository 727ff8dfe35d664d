"""The forecast recipe: one graph that equals the numpy forecaster, beats naive where there is something to learn."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnx
import pytest

from modelworks.algorithms.series.forecast import ForecastRecipe, sealed_windows
from modelworks.algorithms.series.network import train_network
from modelworks.algorithms.series.rolling import bands
from modelworks.algorithms.series.smoothing import repeat_map, smoothing_map
from modelworks.algorithms.series.windows import Windows, cut, fill_shifts, filled, origins_of
from modelworks.compute.payloads import pack_payload
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import Cancelled, DataError
from modelworks.core.estimator import FittedModel
from modelworks.core.signature import Tensor
from modelworks.data.samples.panel import HOUR, Panel, panel_of_arrays


def sales(series: int = 4, length: int = 480, seed: int = 0, *, gaps: bool = True) -> Panel:
    """Positive series of several sizes with a daily shape, a weekly one and a plan that is known ahead."""
    rng = np.random.default_rng(seed)
    hours = np.arange(length)
    values, plans = [], []
    for index in range(series):
        plan = (rng.random(length) < 0.05).astype(float)
        shape = 1 + 0.5 * np.sin(2 * np.pi * hours / 24 + index) + 0.2 * np.sin(2 * np.pi * hours / 168)
        level = 10.0 ** (1 + index % 2)
        found = level * (shape + 0.8 * plan) * np.exp(0.05 * rng.normal(size=length))
        if gaps:
            found[rng.random(length) < 0.03] = np.nan
        values.append(np.stack([found, rng.normal(size=length)]))
        plans.append(plan[None])
    return panel_of_arrays(
        values,
        season=24,
        longer_season=168,
        step=HOUR,
        starts=np.full(series, 17 * HOUR),
        future=tuple(plans),
        channels=("sales", "noise"),
        known=("plan",),
    )


def feeds(model: FittedModel, windows: Windows) -> dict[str, Any]:
    found: dict[str, Any] = {"history": windows.history}
    names = {tensor.name for tensor in model.signature.inputs}
    if "datetimes" in names:
        found["datetimes"] = windows.time[:, None]
    if "future" in names:
        found["future"] = windows.future
    return found


@pytest.fixture(scope="module")
def fitted() -> tuple[FittedModel, Any, Panel]:
    full = sales()
    recipe = ForecastRecipe(horizon=12, quantiles=(0.1, 0.5, 0.9))
    model, native = recipe.fit_native(full.cut(96), Budget(20), 0)
    return model, native, full


def test_the_graph_equals_the_forecaster_and_one_row_equals_the_batch(fitted: Any) -> None:
    model, native, full = fitted
    windows = sealed_windows(full, native.problem, full.lengths - 96)
    session = GraphSession(model.onnx)
    found, wanted = session.run(feeds(model, windows)), native.predict(windows)
    size = float(np.abs(wanted["prediction"]).max())
    for name in ("prediction", "quantiles"):
        assert np.abs(found[name] - wanted[name]).max() < 1e-5 * size
        one = session.run({key: value[7:8] for key, value in feeds(model, windows).items()})
        assert one[name][0] == pytest.approx(found[name][7], rel=1e-4, abs=1e-5 * size)
    assert (np.diff(found["quantiles"], axis=2) >= 0).all()
    domains = {node.domain for node in onnx.load_from_string(model.onnx).graph.node}
    assert domains <= {"", "ai.onnx.ml"}
    assert len(model.onnx) < 10e6


def test_it_beats_seasonal_naive_and_its_interval_covers(fitted: Any) -> None:
    model, native, full = fitted
    windows = sealed_windows(full, native.problem, full.lengths - 96)
    outputs = GraphSession(model.onnx).run(feeds(model, windows))
    scale = native.problem.scale[windows.series][:, None]
    mase = np.nanmean(np.abs(outputs["prediction"] - windows.truth) / scale)
    baselines = ForecastRecipe(horizon=12).baselines(full.cut(96))
    assert set(baselines) == {"last value", "seasonal naive", "Holt-Winters"}
    for model_b in baselines.values():
        other = GraphSession(model_b.onnx).run(feeds(model_b, windows))["prediction"]
        assert mase < 0.9 * np.nanmean(np.abs(other - windows.truth) / scale)
    known = np.isfinite(windows.truth)
    low, high = outputs["quantiles"][..., 0], outputs["quantiles"][..., -1]
    covered = ((windows.truth >= low) & (windows.truth <= high))[known].mean()
    assert 0.7 < covered < 0.93


def test_a_plan_known_ahead_moves_the_forecast(fitted: Any) -> None:
    model, native, full = fitted
    windows = sealed_windows(full, native.problem, full.lengths - 12)
    session = GraphSession(model.onnx)
    given = feeds(model, windows)
    without = session.run({**given, "future": np.zeros_like(windows.future)})["prediction"]
    planned = session.run({**given, "future": np.ones_like(windows.future)})["prediction"]
    assert (planned > 1.1 * without).mean() > 0.9


def test_missing_values_are_filled_and_all_missing_stays_finite(fitted: Any) -> None:
    model, native, full = fitted
    windows = sealed_windows(full, native.problem, full.lengths - 12)
    given = feeds(model, windows)
    empty = {**given, "history": np.full_like(windows.history, np.nan)}
    assert np.isfinite(GraphSession(model.onnx).run(empty)["prediction"]).all()
    shifts = fill_shifts(3, 9)
    values = np.array([[1, 2, np.nan, 4, np.nan, 6, 7, np.nan, np.nan]], np.float32)
    assert filled(values, shifts).tolist() == [[1, 2, 6, 4, 2, 6, 7, 2, 6]]


def test_refits_are_equal_to_the_byte() -> None:
    panel = sales(series=2, length=300)
    recipe = ForecastRecipe(horizon=6)
    assert recipe.fit(panel, None, Budget(10), 3).onnx == recipe.fit(panel, None, Budget(10), 3).onnx


def test_cancelling_ends_the_fit() -> None:
    flag = threading.Event()
    flag.set()
    with pytest.raises(Cancelled):
        ForecastRecipe(horizon=6).fit(sales(series=2), None, Budget(10, cancelled=flag), 0)


def test_a_walk_is_forecast_by_its_last_value() -> None:
    rng = np.random.default_rng(5)
    panel = panel_of_arrays(np.cumsum(rng.normal(size=(3, 600)), axis=1), season=1)
    model = ForecastRecipe(horizon=10).fit(panel, None, Budget(10), 0)
    assert model.diagnostics["chosen"] == "last value"


def test_short_series_are_forecast_and_too_short_ones_refused() -> None:
    values = np.tile([5.0, 9.0, 2.0, 7.0], 8) + np.arange(32) / 10
    model = ForecastRecipe(horizon=4).fit(panel_of_arrays([values], season=4), None, Budget(5), 0)
    found = GraphSession(model.onnx).run(
        {"history": values[None, None, -model.diagnostics["window"] :].astype(np.float32)}
    )["prediction"][0]
    assert found == pytest.approx([8.2, 12.3, 5.4, 10.5], abs=1.0)
    with pytest.raises(DataError, match="horizon"):
        ForecastRecipe(horizon=30).fit(panel_of_arrays([values], season=4), None, Budget(5), 0)


def test_smoothing_as_a_map_equals_its_recursion() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40) + np.tile([0, 3, 1, -2], 10)
    found = values @ smoothing_map(40, 6, season=4, level=0.3, seasonal=0.2, trend=0.1, damping=0.9)
    level, slope, pattern = values[:4].mean(), 0.0, list(values[:4] - values[:4].mean())
    for at in range(4, 40):
        before = level
        level = 0.3 * (values[at] - pattern[at % 4]) + 0.7 * (level + 0.9 * slope)
        slope = 0.1 * (level - before) + 0.9 * 0.9 * slope
        pattern[at % 4] = 0.2 * (values[at] - level) + 0.8 * pattern[at % 4]
    wanted = [
        level + slope * sum(0.9**k for k in range(1, h + 1)) + pattern[(39 + h) % 4] for h in range(1, 7)
    ]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert values @ repeat_map(40, 6, 4) == pytest.approx(np.r_[values[-4:], values[-4:-2]], abs=1e-5)


def test_the_network_learns_what_a_line_cannot() -> None:
    rng = np.random.default_rng(0)
    rows = np.c_[rng.normal(size=(3000, 2)), np.ones(3000)].astype(np.float32)
    targets = np.abs(rows[:, :1]) - np.abs(rows[:, 1:2])
    start = np.zeros((3, 1), np.float32)
    one = np.ones(3000, np.float32)
    network = train_network(
        rows, targets, one, start, hidden=32, epochs=20, seed=0, check=lambda: None, rate=5e-3
    )
    assert np.abs(network.predict(rows) - targets).mean() < 0.1


def test_windows_hold_what_was_known_and_what_came() -> None:
    panel = panel_of_arrays([np.arange(10.0)], season=1, step=HOUR, starts=np.array([5 * HOUR]))
    windows = cut(panel, 4, 3, origins_of(panel, 3, np.array([2])))
    assert windows.origin.tolist() == [2, 3, 4, 5, 6, 7]
    assert windows.history[0, 0].tolist()[2:] == [0, 1] and np.isnan(windows.history[0, 0, :2]).all()
    assert windows.truth[0].tolist() == [2, 3, 4] and windows.truth[-1].tolist() == [7, 8, 9]
    assert windows.time[0] == 6 * HOUR


def test_a_short_history_stands_at_the_end_of_its_window() -> None:
    tensor = Tensor(name="history", datatype="FP32", shape=(-1, 1, 4), columns=("history",))
    packed = pack_payload(tensor, [[[1.0, 2.0]]])
    assert np.isnan(packed[0, 0, :2]).all() and packed[0, 0, 2:].tolist() == [1.0, 2.0]


def test_intervals_follow_a_spread_that_changes() -> None:
    rng = np.random.default_rng(11)
    size = np.exp(np.sin(2 * np.pi * np.arange(3000) / 600))
    panel = panel_of_arrays(np.cumsum(size * rng.normal(size=(3, 3000)), axis=1), season=1)
    recipe = ForecastRecipe(horizon=5)
    model, native = recipe.fit_native(panel.cut(1200), Budget(10), 0)
    windows = sealed_windows(panel, native.problem, panel.lengths - 1200)
    quantiles = GraphSession(model.onnx).run(feeds(model, windows))["quantiles"]
    covered = (windows.truth >= quantiles[..., 0]) & (windows.truth <= quantiles[..., -1])
    calm = size[windows.origin] < 0.6
    wild = size[windows.origin] > 1.7
    assert 0.84 < covered[calm].mean() < 0.97
    assert 0.84 < covered[wild].mean() < 0.97


def test_members_weigh_what_they_are_worth_at_each_step() -> None:
    rng = np.random.default_rng(3)
    hours = np.arange(1200)
    walk = np.zeros(1200)
    for at in range(1, 1200):
        walk[at] = 0.97 * walk[at - 1] + rng.normal()
    daily = 5 * rng.normal(size=24)[hours % 24]
    panel = panel_of_arrays([walk + daily], season=24, step=HOUR, starts=np.array([0]))
    _, native = ForecastRecipe(horizon=24, metric="mae").fit_native(panel, Budget(20), 0)
    assert native.shares.sum(axis=0) == pytest.approx(np.ones(24), abs=1e-5)
    assert (native.shares >= 0).all()
    assert np.abs(native.shares[:, 0] - native.shares[:, -1]).max() > 0.1


def test_bands_of_the_horizon_double() -> None:
    assert bands(1) == [(0, 1)]
    assert bands(24) == [(0, 1), (1, 3), (3, 7), (7, 15), (15, 24)]
