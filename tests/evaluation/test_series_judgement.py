"""Streams and forecasts are judged on series: the NAB score as published, scaled errors, intervals over clusters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from judged_samples import ANOMALY, FORECAST
from sklearn import metrics as sk

from modelworks.core.digest import canonical_json
from modelworks.core.errors import ExecutionError, TaskError
from modelworks.core.task import Bound, Limits
from modelworks.core.verdict import VerdictKind
from modelworks.evaluation import SeriesRows, compare, evaluate, judge, naive_scale
from modelworks.evaluation.nab import LOW_MISSES, nab_terms, normalised, scaled_sigmoid, windows_of
from modelworks.evaluation.predictions import read_outputs
from modelworks.evaluation.series_rows import stretches


def sigmoid_score(y: float) -> float:
    return 2 / (1 + math.exp(5 * y)) - 1


def nab(alarm: np.ndarray, windows: list[tuple[int, int]], start: int = 0) -> float:
    score, count = nab_terms(alarm, windows, start)
    return float(normalised(score.sum(), count.sum()))


def alarms(rows: int, *at: int) -> np.ndarray:
    found = np.zeros(rows, dtype=bool)
    found[list(at)] = True
    return found


def test_nab_perfect_null_and_the_worked_values() -> None:
    windows = [(20, 29), (60, 69)]
    assert nab(alarms(100, 20, 60), windows) == pytest.approx(100.0)
    assert nab(alarms(100), windows) == pytest.approx(0.0)
    # the paper's figure: -1 is 0.98661, half way is 0.84828, the right edge is 0
    assert scaled_sigmoid(np.array([-1.0, -0.5, 0.0])) == pytest.approx([0.98661, 0.84828, 0.0], abs=1e-5)
    late = nab(alarms(100, 25, 60), windows)
    earned = sigmoid_score(-(29 - 25 + 1) / 10) / sigmoid_score(-1) + 1
    assert late == pytest.approx(100 * (earned + 2) / 4)


def test_nab_only_the_first_alarm_of_a_window_counts_and_false_ones_cost_by_distance() -> None:
    windows = [(20, 29)]
    assert nab(alarms(100, 22, 23, 24), windows) == nab(alarms(100, 22), windows)
    before = nab_terms(alarms(100, 5), windows)[0]
    assert before[5] == pytest.approx(-0.11)
    behind = nab_terms(alarms(100, 31, 90), windows)[0]
    assert behind[31] == pytest.approx(0.11 * sigmoid_score(2 / 9))
    assert behind[90] == pytest.approx(-0.11)
    assert nab_terms(alarms(100), windows, profile=LOW_MISSES)[0].sum() == -2.0


def test_nab_probation_raises_no_alarm() -> None:
    assert nab(alarms(100, 3, 20), [(20, 29)], start=15) == pytest.approx(100.0)


def test_windows_are_runs_of_true_rows() -> None:
    assert windows_of(np.array([1, 0, 1, 1, 0, 1], dtype=bool)) == [(0, 0), (2, 3), (5, 5)]


def stream(
    seed: int, series: int = 3, rows: int = 400
) -> tuple[dict[str, np.ndarray], np.ndarray, SeriesRows]:
    rng = np.random.default_rng(seed)
    truth = np.zeros((series, rows), dtype=np.int64)
    truth[:, 200:230] = 1
    score = rng.normal(size=(series, rows)) + 2.5 * truth
    outputs = {"score": score.ravel().astype(np.float32), "anomalous": score.ravel() > 2.5}
    return outputs, truth.ravel(), SeriesRows(group=np.repeat(np.arange(series), rows))


def test_anomaly_record() -> None:
    outputs, truth, series = stream(0)
    found = evaluate(ANOMALY, outputs, truth, series=series)
    canonical_json(found)
    values = {item["name"]: item for item in found["measures"]}
    assert found["metric"] == "roc_auc" and found["class_rows"] == [1110, 90]
    assert values["roc_auc"]["value"] == pytest.approx(sk.roc_auc_score(truth, outputs["score"]))
    assert values["f1"]["value"] == pytest.approx(sk.f1_score(truth, outputs["anomalous"]))
    assert values["false_alarm_rate"]["value"] == pytest.approx(outputs["anomalous"][truth == 0].mean())
    assert values["event_recall"]["value"] == 1.0 and values["event_found"]["value"] == 1.0
    assert len(found["timelines"]) == 3 and any(found["timelines"][0]["alarm"])
    assert found["units"] == 3 * math.ceil(400 / 30)
    alone = evaluate(ANOMALY, outputs, truth)
    assert alone["units"] is None and "nab_score" not in {item["name"] for item in alone["measures"]}
    with_nab = evaluate(ANOMALY, outputs, truth, also=["nab"])
    assert "order of time" in with_nab["undefined"]["nab_score"]


def test_event_found_follows_the_rule_of_the_archive() -> None:
    truth = np.zeros(1000, dtype=np.int64)
    truth[500:510] = 1
    series = SeriesRows(group=np.zeros(1000))
    for top, expected in ((390, 0.0), (401, 1.0), (609, 1.0), (620, 0.0)):
        outputs = {"score": (np.arange(1000) == top) * 1.0, "anomalous": np.zeros(1000)}
        found = evaluate(ANOMALY, outputs, truth, metric="event_found", series=series)
        assert found["measures"][0]["value"] == expected, top


def test_rows_that_err_together_have_wider_limits() -> None:
    rng = np.random.default_rng(4)
    series, rows = 12, 200
    truth = np.tile(np.arange(rows) % 10 == 0, (series, 1)).astype(np.int64)
    score = rng.normal(size=(series, rows)) + 1.5 * truth * rng.normal(1, 1, size=(series, 1))
    outputs = {"score": score.ravel(), "anomalous": score.ravel() > 1}
    widths = []
    for groups in (None, SeriesRows(group=np.repeat(np.arange(series), rows))):
        measure = evaluate(ANOMALY, outputs, truth.ravel(), series=groups)["measures"][0]
        widths.append(measure["high"] - measure["low"])
    assert widths[1] > 1.5 * widths[0]


def test_resampling_units_are_series_or_stretches_of_time() -> None:
    many = np.repeat(np.arange(12), 5)
    assert np.array_equal(stretches(many, 3), many)
    few = np.repeat(np.arange(2), 12)
    assert np.bincount(stretches(few, 4)).tolist() == [4] * 6
    assert len(np.unique(stretches(np.zeros(20, dtype=np.int64), 96))) == 5


def forecasts(
    seed: int, series: int = 20, origins: int = 3, horizon: int = 6
) -> tuple[np.ndarray, np.ndarray, SeriesRows]:
    rng = np.random.default_rng(seed)
    truth = 50 + 10 * rng.normal(size=(series, 1, 1)) + rng.normal(size=(series, origins, horizon))
    noise = rng.normal(size=truth.shape)
    rows = SeriesRows(
        group=np.repeat([f"s{k}" for k in range(series)], origins), scale=np.full(series * origins, 2.0)
    )
    return truth.reshape(-1, horizon), (truth + noise).reshape(-1, horizon), rows


def test_forecast_record() -> None:
    truth, predicted, series = forecasts(0)
    truth[0, 2:] = np.nan
    quantiles = predicted[:, :, None] + np.array([-1.2816, 0.0, 1.2816])
    outputs = {"prediction": predicted, "quantiles": quantiles}
    found = evaluate(FORECAST, outputs, truth, series=series, quantiles=(0.1, 0.5, 0.9))
    canonical_json(found)
    values = {item["name"]: item["value"] for item in found["measures"]}
    error = np.abs(predicted - truth)
    assert found["metric"] == "mase" and found["units"] == 20
    assert values["mase"] == pytest.approx(np.nanmean(error) / 2)
    assert values["smape"] == pytest.approx(np.nanmean(2 * error / (np.abs(truth) + np.abs(predicted))))
    gap = truth[:, :, None] - quantiles
    level = np.array([0.1, 0.5, 0.9])
    pinball = np.maximum(level * gap, (level - 1) * gap)
    assert values["wql"] == pytest.approx(
        np.mean([2 * np.nansum(pinball[..., k]) / np.nansum(np.abs(truth)) for k in range(3)])
    )
    assert values["interval_coverage"] == pytest.approx(0.8, abs=0.08)
    assert found["by_step"][0]["n"] == 60 and found["by_step"][2]["n"] == 59
    assert found["forecasts"][0]["truth"][2] is None


def test_naive_scale_is_the_seasonal_naive_error() -> None:
    values = np.array([1.0, 5.0, 2.0, 7.0, np.nan, 6.0])
    assert naive_scale(values, 2) == pytest.approx(np.mean([1.0, 2.0, 1.0]))
    assert naive_scale(values[:2], 4) == 4.0
    assert math.isnan(naive_scale(values[:1]))


def test_a_better_forecast_beats_seasonal_naive_and_passes_the_gate() -> None:
    truth, predicted, series = forecasts(1)
    rng = np.random.default_rng(0)
    naive = {"prediction": truth + 3 * rng.normal(size=truth.shape)}
    mean = {"prediction": np.full(truth.shape, truth.mean())}
    outputs = {"prediction": predicted}
    evaluation = evaluate(FORECAST, outputs, truth, series=series)
    baselines = {
        name: compare(FORECAST, outputs, other, truth, series=series)
        for name, other in (("seasonal naive", naive), ("the mean", mean))
    }
    assert baselines["seasonal naive"]["better"] and baselines["the mean"]["constant"]
    gate = [Bound.parse("mase", "<= 0.6")]
    assert judge(evaluation, gate, Limits(), {}, baselines).kind is VerdictKind.RELEASED
    strict = judge(evaluation, [Bound.parse("mase", "<= 0.1")], Limits(), {}, baselines)
    assert strict.kind is VerdictKind.REFUSED and "mase" in strict.cause
    turned = compare(FORECAST, naive, outputs, truth, series=series)
    worse = judge(evaluate(FORECAST, naive, truth, series=series), [], Limits(), {}, {"simple": turned})
    assert worse.kind is VerdictKind.REFUSED and "simple" in worse.cause


def test_a_stream_without_anomalies_needs_evidence_but_its_false_alarms_are_measured() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=500)
    outputs = {"score": score, "anomalous": score > 2}
    truth = np.zeros(500, dtype=np.int64)
    evaluation = evaluate(ANOMALY, outputs, truth, series=SeriesRows(group=np.zeros(500)))
    assert "roc_auc" in evaluation["undefined"]
    measured = {item["name"]: item["value"] for item in evaluation["measures"]}
    assert measured["false_alarm_rate"] == pytest.approx((score > 2).mean())
    assert judge(evaluation, [], Limits(), {}, {}).kind is VerdictKind.NEEDS_EVIDENCE


def test_outputs_of_the_wrong_shape_are_refused() -> None:
    truth, predicted, series = forecasts(2)
    with pytest.raises(ExecutionError, match="shape"):
        read_outputs(FORECAST, {"prediction": predicted[:, :-1]}, truth, ())
    with pytest.raises(ExecutionError, match="anomalous"):
        read_outputs(ANOMALY, {"score": np.zeros(3)}, np.zeros(3, dtype=int), ())
    with pytest.raises(TaskError, match="series marks"):
        read_outputs(
            FORECAST, {"prediction": predicted}, truth, (), series=SeriesRows(group=series.group[:-1])
        )
