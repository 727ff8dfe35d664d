"""Forecasts and alarms behind the doors: windows as rows or tensors, short and long histories, moments and plans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_kit import running

from modelworks.algorithms.series.anomaly import AnomalyRecipe
from modelworks.algorithms.series.forecast import ForecastRecipe
from modelworks.core.budget import Budget
from modelworks.core.estimator import FittedModel
from modelworks.data.samples.panel import HOUR, panel_of_arrays
from modelworks.serving.model import MemorySource

HORIZON = 6
RNG = np.random.default_rng(0)
HOURS = np.arange(500)
PLAN = (RNG.random(500) < 0.1).astype(float)
VALUES = 10 + np.sin(HOURS / 24 * 2 * np.pi) + 0.05 * RNG.normal(size=500) + 3 * PLAN


def forecaster() -> FittedModel:
    panel = panel_of_arrays([VALUES], season=24, step=HOUR, future=(PLAN[None],), known=("plan",))
    return ForecastRecipe(horizon=HORIZON).fit(panel, None, Budget(5), 0)


def detector() -> FittedModel:
    return AnomalyRecipe(alarm="event").fit(panel_of_arrays([VALUES], season=24), None, Budget(5), 0)


@pytest.fixture(scope="module")
def models() -> dict[str, FittedModel]:
    return {"ahead": forecaster(), "alarm": detector()}


@pytest.fixture(scope="module")
def served(models: dict[str, FittedModel], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home: Path = tmp_path_factory.mktemp("home")
    sources = [
        MemorySource(name=name, digest=name * 12, signature=model.signature, onnx=model.onnx)
        for name, model in models.items()
    ]
    with running(home, sources) as server:
        yield server


def predict(served: Any, model: str, row: dict[str, Any]) -> tuple[int, Any]:
    status, answer, _ = served.request("POST", f"/v1/models/{model}/predict", {"rows": [row]})
    return status, answer["predictions"][0] if status == 200 else answer


def test_rows_and_tensors_get_the_same_forecast(served: Any, models: dict[str, FittedModel]) -> None:
    length = models["ahead"].signature.inputs[0].shape[2]
    row = {"history": VALUES[-length:].tolist(), "origin": "1970-01-21T19:00:00", "future": [0.0] * HORIZON}
    status, answer = predict(served, "ahead", row)
    assert status == 200, answer
    assert len(answer["prediction"]) == HORIZON and np.shape(answer["quantiles"]) == (HORIZON, 7)
    body = {
        "inputs": [
            {"name": "history", "shape": [1, 1, length], "datatype": "FP32", "data": row["history"]},
            {"name": "datetimes", "shape": [1, 1], "datatype": "INT64", "data": [499 * HOUR]},
            {"name": "future", "shape": [1, 1, HORIZON], "datatype": "FP32", "data": row["future"]},
        ]
    }
    status, told, _ = served.request("POST", "/v2/models/ahead/infer", body)
    assert status == 200, told
    tensors = {item["name"]: item["data"] for item in told["outputs"]}
    np.testing.assert_allclose(tensors["prediction"], answer["prediction"], rtol=1e-5)
    planned = predict(served, "ahead", {**row, "future": [1.0] * HORIZON})[1]
    assert np.mean(planned["prediction"]) > np.mean(answer["prediction"]) + 1.5


def test_the_newest_value_stands_at_the_end_however_long_the_history_is(
    served: Any, models: dict[str, FittedModel]
) -> None:
    length = models["ahead"].signature.inputs[0].shape[2]
    row = {"origin": "1970-01-21T19:00:00", "future": [0.0] * HORIZON}
    exact, long, short = (
        predict(served, "ahead", {**row, "history": VALUES[-count:].tolist()})[1]["prediction"]
        for count in (length, length + 100, 48)
    )
    assert long == exact
    truth = 10 + np.sin((500 + np.arange(HORIZON)) / 24 * 2 * np.pi)
    assert np.abs(np.array(short) - truth).max() < 1


def test_an_alarm_is_raised_for_the_newest_value_only(served: Any) -> None:
    quiet = VALUES[-260:].tolist()
    assert predict(served, "alarm", {"history": quiet})[1]["anomalous"] is False
    assert predict(served, "alarm", {"history": [*quiet[1:], 60.0]})[1]["anomalous"] is True
    # Told already: the stream was alarmed a moment ago.
    assert predict(served, "alarm", {"history": [*quiet[3:], 60.0, 60.0, 60.0]})[1]["anomalous"] is False


def test_windows_that_cannot_be_read_get_a_cause(served: Any) -> None:
    for history in ("high", [[1.0, 2.0], [1.0, 2.0]], []):
        status, answer = predict(served, "alarm", {"history": history})
        assert status == 400 and "MW1105" in answer["error"], answer
