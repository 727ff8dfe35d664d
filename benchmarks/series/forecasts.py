"""Forecasts of the public sets through the shipped graph, beside plain forecasts and a statistical library.

OMP_NUM_THREADS=1 python -m benchmarks.series.forecasts SET... [--peer PYTHON]   (requirements.txt says what it needs)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.series.forecast_sets import FORECASTS, ForecastSet
from benchmarks.series.results import write_row
from modelworks.algorithms.series.forecast import ForecastRecipe
from modelworks.algorithms.series.windows import Windows, cut, origins_of
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.estimator import FittedModel
from modelworks.core.task import TaskKind
from modelworks.evaluation import SeriesRows, evaluate, naive_scale
from modelworks.production.stream_judging import columns_of, shape_of

Array = npt.NDArray[np.float64]
PEER = Path(__file__).with_name("statistical_peer.py")
MOST_HISTORY = 1008
METRICS = ("mase", "smape", "wql", "interval_coverage")


class Judged:
    """The sealed origins of a set, and the measures of answers to them."""

    def __init__(self, found: ForecastSet) -> None:
        self.found = found
        self.origins = origins_of(found.panel, found.horizon, found.first, found.stride)
        self.windows = self.cut(1)
        season = found.panel.season
        scales = [
            naive_scale(item[0, :end], season)
            for item, end in zip(found.panel.values, found.first.tolist(), strict=True)
        ]
        self.scale = np.array(scales)[self.windows.series]
        place = np.concatenate([np.arange(len(item)) for item in self.origins])
        self.peer_rows = np.flatnonzero(place % found.peer_every == 0)

    def cut(self, length: int) -> Windows:
        """Return the windows with histories of ``length`` values."""
        return cut(self.found.panel, length, self.found.horizon, self.origins)

    def answers(self, model: FittedModel) -> dict[str, Array]:
        """Return what a graph says about the sealed windows."""
        windows = self.cut(shape_of(model.signature)[0])
        outputs = answer(GraphSession(model.onnx), model.signature, columns_of(windows), windows.rows)
        return {name: np.asarray(outputs[name], float) for name in ("prediction", "quantiles")}

    def measures(
        self, outputs: dict[str, Array], levels: tuple[float, ...], rows: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Return the measures with 95 % limits, and the errors that the literature of the set prints."""
        found, windows = self.found, self.windows
        truth, prediction = windows.truth[rows], outputs["prediction"][rows]
        gap = prediction - truth
        if found.scale is not None:
            gap = gap / found.scale[windows.series[rows]][:, 1:2]
        result: dict[str, Any] = {
            "mae": float(np.nanmean(np.abs(gap))),
            "mse": float(np.nanmean(gap**2)),
            "rmse_first_step": float(np.nanmean(gap[:, 0] ** 2) ** 0.5),
            "mae_first_step": float(np.nanmean(np.abs(gap[:, 0]))),
        }
        kept = rows[np.isfinite(windows.truth[rows]).any(axis=1)]
        record = evaluate(
            TaskKind.FORECAST,
            {name: values[kept] for name, values in outputs.items()},
            windows.truth[kept],
            metric="mase",
            also=METRICS,
            quantiles=levels,
            series=SeriesRows(
                group=windows.series[kept],
                scale=self.scale[kept],
                block=max(1, found.horizon // found.stride),
            ),
        )
        for measure in record["measures"]:
            if measure["name"] in METRICS:
                result[measure["name"]] = measure["value"]
                result[f"{measure['name']}_95"] = [round(measure["low"], 4), round(measure["high"], 4)]
        return result


def _histories(judged: Judged) -> Array:
    """Return what came before the peers' origins, gaps interpolated, NaN in front of short ones."""
    windows, panel = judged.windows, judged.found.panel
    rows = []
    for row in judged.peer_rows.tolist():
        before = panel.values[int(windows.series[row])][0, : int(windows.origin[row])][-MOST_HISTORY:]
        known = np.flatnonzero(np.isfinite(before))
        filled = np.interp(np.arange(len(before)), known, before[known])
        rows.append(np.concatenate([np.full(MOST_HISTORY - len(before), np.nan), filled]))
    return np.array(rows)


def peers(
    judged: Judged, python: str
) -> Iterator[tuple[str, dict[str, Array], tuple[float, ...], dict[str, Any]]]:
    """Yield the answers of the statistical models at the peers' origins (other rows are NaN)."""
    with tempfile.TemporaryDirectory() as place:
        asked, told = Path(place) / "origins.npz", Path(place) / "answers.npz"
        np.savez(
            asked,
            histories=_histories(judged),
            horizon=judged.found.horizon,
            seasons=np.array(judged.found.peer_seasons),
        )
        subprocess.run([python, str(PEER), str(asked), str(told)], check=True, stdout=sys.stderr)
        found = np.load(told)
        for name in found["names"].tolist():
            outputs = {}
            for part in ("prediction", "quantiles"):
                values = found[f"{name}/{part}"]
                outputs[part] = np.full((judged.windows.rows, *values.shape[1:]), np.nan)
                outputs[part][judged.peer_rows] = values
            more = {"cpu_s": float(found[f"{name}/cpu_s"]), "failed": int(found[f"{name}/failed"])}
            yield name, outputs, tuple(found["levels"].tolist()), more


def run(name: str, budget: float, peer: str | None) -> None:
    """Measure one set and write a row per model: at all origins, and at those the statistical models were asked."""
    found = FORECASTS[name]()
    judged = Judged(found)
    recipe = ForecastRecipe(horizon=found.horizon, metric=found.metric)
    before = found.panel.until(found.first)
    mark = time.process_time()
    model = recipe.fit(before, None, Budget(budget), 0)
    spent = time.process_time() - mark
    every = np.arange(judged.windows.rows)
    apart = len(judged.peer_rows) < len(every)
    asked = [("all", every), *([("peers", judged.peer_rows)] if apart else [])]
    for label, one in {"modelworks": model, **recipe.baselines(before)}.items():
        outputs = judged.answers(one)
        for where, rows in asked:
            row: dict[str, Any] = {"set": name, "model": label, "origins": where, "windows": len(rows)}
            row |= judged.measures(outputs, one.signature.quantiles, rows)
            if label == "modelworks":
                row |= {"cpu_s": spent, "mb": len(one.onnx) / 1e6, "note": one.diagnostics["chosen"]}
            write_row("forecasts", {**row, "reference": found.reference})
    if peer is None:
        return
    for label, outputs, levels, more in peers(judged, peer):
        row = {"set": name, "model": label, "origins": "peers" if apart else "all"}
        row |= {
            "windows": len(judged.peer_rows),
            **judged.measures(outputs, levels, judged.peer_rows),
            **more,
        }
        write_row("forecasts", {**row, "reference": found.reference})


def main() -> int:
    """Measure the named sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", choices=sorted(FORECASTS))
    parser.add_argument("--budget", type=float, default=60)
    parser.add_argument("--peer", help="Python of an environment with statsforecast")
    given = parser.parse_args()
    for name in given.sets:
        run(name, given.budget, given.peer)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
