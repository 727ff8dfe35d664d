"""Forecasts of the public sets through the shipped graph, beside last value, seasonal naive and Holt-Winters.

OMP_NUM_THREADS=1 python -m benchmarks.series.forecasts SET...
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.series.results import write_row
from benchmarks.series.sets import FORECASTS, ForecastSet
from modelworks.algorithms.series.forecast import ForecastRecipe
from modelworks.algorithms.series.windows import Windows, cut, origins_of
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.estimator import FittedModel
from modelworks.production.stream_judging import columns_of, shape_of

Array = npt.NDArray[np.float64]


def measures(found: ForecastSet, windows: Windows, prediction: Array) -> dict[str, float]:
    """Return the errors that the literature of the set prints."""
    truth = windows.truth
    gap = prediction - truth
    if found.scale is not None:
        gap = gap / found.scale[windows.series][:, 1:2]
    result = {"mae": float(np.nanmean(np.abs(gap))), "mse": float(np.nanmean(gap**2))}
    if found.metric == "smape":
        size = np.abs(truth) + np.abs(prediction)
        result = {"smape": float(100 * np.nanmean(2 * np.abs(gap) / np.where(size > 0, size, 1)))}
    return result | {"rmse": result["mse"] ** 0.5} if "mse" in result else result


def judged(found: ForecastSet, model: FittedModel) -> tuple[Windows, Array]:
    """Return the sealed windows, and the answers of the graph."""
    length, horizon = shape_of(model.signature)
    windows = cut(found.panel, length, horizon, origins_of(found.panel, horizon, found.first, found.stride))
    outputs = answer(GraphSession(model.onnx), model.signature, columns_of(windows), windows.rows)
    return windows, outputs["prediction"].astype(float)


def run(name: str, budget: float) -> None:
    """Measure one set and write a row per model."""
    found = FORECASTS[name]()
    recipe = ForecastRecipe(horizon=found.horizon, metric=found.metric)
    before = found.panel.until(found.first)
    mark = time.process_time()
    model = recipe.fit(before, None, Budget(budget), 0)
    spent = time.process_time() - mark
    for label, one in {"modelworks": model, **recipe.baselines(before)}.items():
        windows, prediction = judged(found, one)
        row: dict[str, Any] = {"set": name, "model": label, **measures(found, windows, prediction)}
        if label == "modelworks":
            row |= {"cpu_s": spent, "mb": len(one.onnx) / 1e6, "note": one.diagnostics["chosen"]}
        write_row({**row, "windows": windows.rows, "reference": found.reference})


def main() -> int:
    """Measure the named sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", choices=sorted(FORECASTS))
    parser.add_argument("--budget", type=float, default=60)
    given = parser.parse_args()
    for name in given.sets:
        run(name, given.budget)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
