"""Which judged rows hang together in time, and the units that are resampled because of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SeriesRows:
    """Which judged rows belong to one series, for tasks on streams and forecasts.

    Attributes:
        group: Series of each row, [rows], any type; rows of one series stand in order of time.
        scale: Forecasts: error of the naive forecast on the training part of the row's series, [rows] (``mase``).
        block: Rows in a row that hang together; 0 takes the horizon, or a length from the rows.
    """

    group: npt.NDArray[Any]
    scale: npt.NDArray[Any] | None = None
    block: int = 0


ENOUGH_SERIES = 10
"""From so many series on they are the resampling units; below, stretches of time within them."""

FEWEST_STRETCHES = 5


def stretches(group: Integers, block: int) -> Integers:
    """Return the resampling unit of each row: its series, or ``block`` rows in a row of it where series are few.

    Neighbours in time err together, so they are counted together (block bootstrap; Kuensch, Annals of Statistics 17,
    1989). Blocks are shortened where fewer than five units would be left.
    """
    count = int(group.max()) + 1
    if count >= ENOUGH_SERIES:
        return group
    rows = np.bincount(group)
    block = max(1, min(block, math.ceil(int(rows.max()) * count / FEWEST_STRETCHES)))
    order = np.argsort(group, kind="stable")
    position = np.empty(len(group), np.int64)
    position[order] = np.arange(len(group)) - np.repeat(np.cumsum(rows) - rows, rows)
    _, cluster = np.unique(np.stack([group, position // block]), axis=1, return_inverse=True)
    return np.asarray(cluster, dtype=np.int64).reshape(-1)


def block_rows(truth: npt.NDArray[Any], group: Integers) -> int:
    """Return how many rows in a row hang together: the horizon; or the longest anomaly, at least rows^(1/3).

    Args:
        truth: ``[rows, horizon]`` of a forecast, or 0 and 1 ``[rows]`` of an anomaly task.
        group: Series code of each row.
    """
    if truth.ndim == 2:
        return int(truth.shape[1])
    order = np.argsort(group, kind="stable")
    marked: Integers = np.concatenate([[0], truth[order], [0]])
    edges = np.diff(marked)
    runs: Integers = np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)
    return max(math.ceil(math.cbrt(len(truth))), int(runs.max(initial=0)))
