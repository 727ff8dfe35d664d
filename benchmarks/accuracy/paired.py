"""Is a difference on one table more than its test rows' luck? Paired bootstrap over rows of two methods' losses."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.accuracy.measures import probabilities
from benchmarks.accuracy.suite import LOCK, work_folder

DRAWS = 2_000


@cache
def truth(table: str, fold: int) -> np.ndarray:
    """Return the targets of one test fold from the prepared table."""
    import pyarrow.parquet

    folder = work_folder() / "tables"
    column = pyarrow.parquet.read_table(folder / f"{table}.parquet", columns=["__target__"])
    folds = np.load(folder / f"{table}.folds.npy")
    return np.asarray(column.column(0).to_numpy())[folds == fold]


def prediction_file(method: str, table: str, fold: int) -> Path:
    """Return where ``run_one`` kept the test predictions of one run."""
    return work_folder() / "predictions" / method / f"{table}.{fold}.npz"


def row_losses(method: str, table: str, fold: int) -> np.ndarray:
    """Return the squared error or the log loss of every test row."""
    outputs = np.load(prediction_file(method, table, fold))["outputs"]
    target = truth(table, fold)
    if json.loads(LOCK.read_text())[table]["kind"] == "regression":
        return (target - outputs.ravel()) ** 2
    return -np.log(probabilities(outputs)[np.arange(len(target)), target])


def interval(a: str, b: str, table: str, folds: list[int]) -> tuple[float, float] | None:
    """Return the 95 % interval of the loss ratio a / b over resampled test rows.

    The ratio is of mean losses (for regression of root mean squared errors) over the rows of all ``folds``
    together. None where predictions were not kept.
    """
    if not all(prediction_file(name, table, fold).exists() for name in (a, b) for fold in folds):
        return None
    of_a, of_b = (np.concatenate([row_losses(name, table, fold) for fold in folds]) for name in (a, b))
    generator = np.random.default_rng(0)
    ratios = np.empty(DRAWS)
    for draw in range(DRAWS):
        rows = generator.integers(0, len(of_a), size=len(of_a))
        ratios[draw] = of_a[rows].mean() / max(of_b[rows].mean(), 1e-12)
    if json.loads(LOCK.read_text())[table]["kind"] == "regression":
        ratios = np.sqrt(ratios)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)
