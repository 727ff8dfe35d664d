"""The detector of anomalies in streams: its graph equals numpy, and it finds what is strange."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from modelworks.algorithms.series.anomaly import AnomalyRecipe, Detector, baselines
from modelworks.algorithms.series.event_alarms import quiet_threshold
from modelworks.algorithms.series.windows import Windows, cut
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import DataError
from modelworks.core.estimator import FittedModel
from modelworks.data.samples.panel import Panel, panel_of_arrays

EVENT = slice(1500, 1520)


def stream(length: int = 2000, seed: int = 0, *, event: bool = True) -> Panel:
    """Two channels of one rhythm; in the event the second loses it while neither leaves its range."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)
    values = np.stack([np.sin(time / 25 * 2 * np.pi), np.cos(time / 25 * 2 * np.pi)])
    values += 0.05 * rng.normal(size=values.shape)
    if event:
        values[1, EVENT] = 0.3
    return panel_of_arrays([values], season=25, channels=("a", "b"))


def windows(panel: Panel, length: int, first: int = 0) -> Windows:
    return cut(panel, length, 1, [np.arange(first, int(panel.lengths[0])) + 1])


@pytest.fixture(scope="module")
def fitted() -> tuple[FittedModel, Detector]:
    return AnomalyRecipe().fit_native(stream().cut(1000), Budget(20), 0)


def test_the_graph_equals_the_detector(fitted: tuple[FittedModel, Detector]) -> None:
    model, native = fitted
    seen = windows(stream(), native.length)
    seen.history[5, :, 3:9] = np.nan
    seen.history[6] = np.nan
    seen.history[7] = 1e6
    found, wanted = GraphSession(model.onnx).run({"history": seen.history}), native.predict(seen)
    assert np.allclose(found["score"], wanted["score"], rtol=1e-3, atol=1e-4)
    assert np.isfinite(found["score"]).all() and (found["anomalous"] == wanted["anomalous"]).mean() > 0.999
    assert found["anomalous"][7]
    domains = {node.domain for node in onnx.load_from_string(model.onnx).graph.node}
    assert domains <= {"", "ai.onnx.ml"}
    again, _ = AnomalyRecipe().fit_native(stream().cut(1000), Budget(20), 0)
    assert again.onnx == model.onnx


def test_a_lost_rhythm_is_found_and_normal_values_rarely_alarm(
    fitted: tuple[FittedModel, Detector],
) -> None:
    model, native = fitted
    first = 1000
    found = GraphSession(model.onnx).run({"history": windows(stream(), native.length, first).history})
    top = first + int(np.argmax(found["score"]))
    assert EVENT.start <= top < EVENT.stop + native.length
    assert found["anomalous"][EVENT.start - first : EVENT.stop - first].any()
    assert found["anomalous"][: EVENT.start - first].mean() < 0.02
    plain = GraphSession(baselines(2, native.length)["windowed Gaussian"].onnx)
    weak = plain.run({"history": windows(stream(), native.length, first).history})
    assert not EVENT.start <= first + int(np.argmax(weak["score"])) < EVENT.stop


def test_values_known_to_be_anomalous_teach_nothing() -> None:
    train = stream().cut(400)
    usual = np.ones(1600, bool)
    usual[EVENT.start : EVENT.stop + 50] = False
    _, native = AnomalyRecipe().fit_native(train, Budget(20), 0, [usual])
    _, blind = AnomalyRecipe().fit_native(train, Budget(20), 0)
    seen = windows(train, native.length, EVENT.start)
    assert native.predict(seen)["score"].max() > blind.predict(seen)["score"].max()


def test_a_stream_that_is_too_short_is_refused() -> None:
    with pytest.raises(DataError, match="normal windows") as caught:
        AnomalyRecipe().fit_native(stream(50, event=False).cut(10), Budget(20), 0)
    assert caught.value.error_code == "MW1190"


def drifting(length: int = 3000, seed: int = 1) -> Panel:
    """One channel whose level moves for good twice; a burst near the end, which lasts."""
    rng = np.random.default_rng(seed)
    values = (
        rng.normal(size=length)
        + np.where(np.arange(length) > 1500, 8.0, 0)
        + np.where(np.arange(length) > 2100, 8.0, 0)
    )
    values[2700:2760] += 30
    return panel_of_arrays([values], season=1)


def test_an_event_is_alarmed_once_and_a_new_level_becomes_usual() -> None:
    panel = drifting()
    found = {}
    for alarm in ("state", "event"):
        model, native = AnomalyRecipe(alarm=alarm).fit_native(panel.cut(2000), Budget(20), 0)
        seen = windows(panel, model.signature.inputs[0].shape[2], 1000)
        outputs, wanted = GraphSession(model.onnx).run({"history": seen.history}), native.predict(seen)
        assert np.allclose(outputs["score"], wanted["score"], rtol=1e-3, atol=1e-3)
        assert model.diagnostics["alarm"] == alarm
        found[alarm] = np.flatnonzero(outputs["anomalous"]) + 1000
    # The state lasts as long as the level is not the one of the training stretch.
    assert len(found["state"]) > 1400
    # Both new levels and the burst are told near their beginning, and little else.
    for begin in (1501, 2101, 2700):
        assert ((found["event"] >= begin) & (found["event"] < begin + 25)).any(), found["event"]
    assert len(found["event"]) <= 6, found["event"]


def test_the_threshold_leaves_training_quiet_within_bounds() -> None:
    origin = np.arange(1000)
    loud = np.full(1000, 0.2, np.float32)
    assert quiet_threshold(loud, origin) == pytest.approx(0.95)
    loud[700] = 1.2
    loud[10] = 9.0  # before the stream has settled
    assert quiet_threshold(loud, origin) == pytest.approx(1.2)
    loud[800] = 30.0
    assert quiet_threshold(loud, origin) == pytest.approx(1.5)


def test_the_metric_of_events_asks_for_alarms_of_events() -> None:
    assert AnomalyRecipe(metric="nab_score").once and AnomalyRecipe(metric="f1", alarm="event").once
    assert not AnomalyRecipe(metric="nab_score", alarm="state").once and not AnomalyRecipe().once


def test_fewer_alarms_where_fewer_are_allowed() -> None:
    panel = stream(event=False).cut(500)
    thresholds = [
        AnomalyRecipe(false_alarm_rate=rate).fit_native(panel, Budget(20), 0)[1].threshold
        for rate in (0.05, 1e-3, 1e-6)
    ]
    assert thresholds[0] < thresholds[1] <= thresholds[2]
