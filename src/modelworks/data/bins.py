"""Columns cut into a few bins, and how much a binned column knows about a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.schema import ColumnKind, Schema
from modelworks.core.task import TaskKind
from modelworks.data.target import Target
from modelworks.data.typed import as_doubles, codes_and_levels

MAX_BINS = 32
TARGET_BINS = 10
_EDGE_SAMPLE = 20_000
_NUMERIC = frozenset({ColumnKind.NUMBER, ColumnKind.DATETIME})

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Binned:
    """A column as small whole numbers.

    Attributes:
        codes: int64 bin of each row; 0 is missing.
        bins: Number of bins, the missing one included.
        edges: Inner edges of a numeric column's bins.
        exact: Whether every bin holds one value only.
    """

    codes: Codes
    bins: int
    edges: npt.NDArray[np.float64] | None = None
    exact: bool = True


def bin_column(table: pa.Table, schema: Schema, name: str) -> Binned:
    """Cut one column: numbers and dates at quantiles, others by their commonest values (rarer ones share a bin)."""
    column = schema[name]
    cells = table.column(name)
    is_number = (
        pa.types.is_integer(cells.type)
        or pa.types.is_floating(cells.type)
        or pa.types.is_timestamp(cells.type)
    )
    if is_number and (column.kind in _NUMERIC or column.distinct > MAX_BINS):
        return bin_numbers(as_doubles(cells))
    codes, levels = codes_and_levels(cells)
    if len(levels) < MAX_BINS:
        return Binned(codes + 1, len(levels) + 1)
    counts = np.bincount(codes + 1, minlength=len(levels) + 1)
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")
    place = np.full(len(levels) + 1, MAX_BINS - 1, dtype=np.int64)
    place[order[: MAX_BINS - 2]] = np.arange(1, MAX_BINS - 1)
    place[0] = 0
    return Binned(place[codes + 1], MAX_BINS, exact=False)


def bin_numbers(values: npt.NDArray[np.float64], bins: int = MAX_BINS - 1) -> Binned:
    """Cut numbers at quantiles of an even sample; a value that is common gets a bin of its own."""
    sample = values[:: max(1, len(values) // _EDGE_SAMPLE)]
    sample = np.sort(sample[np.isfinite(sample)])
    if len(sample) == 0:
        return Binned(np.zeros(len(values), dtype=np.int64), 1)
    distinct = sample[np.concatenate(([True], sample[1:] != sample[:-1]))]
    exact = len(distinct) <= bins and len(sample) == np.count_nonzero(np.isfinite(values))
    if len(distinct) <= bins:
        edges = (distinct[1:] + distinct[:-1]) / 2
    else:
        picked = sample[np.linspace(0, len(sample) - 1, bins + 1).astype(np.int64)[1:-1]]
        edges = np.unique(picked)
    codes = np.searchsorted(edges, values, side="right" if len(distinct) > bins else "left") + 1
    codes[~np.isfinite(values)] = 0
    return Binned(codes.astype(np.int64), len(edges) + 2, edges, exact)


def bin_target(target: Target) -> list[Binned]:
    """Return the target as classes: one for a task with one target, one per label for several labels.

    Rows without a target have code -1; a number is cut into ten bins at quantiles.
    """
    if target.kind is TaskKind.REGRESSION:
        binned = bin_numbers(target.values, TARGET_BINS)
        return [Binned(binned.codes - 1, binned.bins - 1, binned.edges, binned.exact)]
    if target.kind is TaskKind.MULTILABEL:
        labels = target.values.astype(np.int64)
        labels[labels == 255] = -1
        return [Binned(labels[:, index], 2) for index in range(labels.shape[1])]
    return [Binned(np.asarray(target.values, dtype=np.int64), len(target.classes))]


def contingency(column: Binned, target: Binned) -> npt.NDArray[np.float64]:
    """Count rows by bin and class, rows without a target left out."""
    known = target.codes >= 0
    codes = column.codes * target.bins + target.codes
    codes = codes if known.all() else codes[known]
    counts = np.bincount(codes, minlength=column.bins * target.bins)
    return counts.reshape(column.bins, target.bins).astype(np.float64)


def uncertainty(counts: npt.NDArray[np.float64]) -> float:
    """Return Theil's U(target | column) in [0, 1] with Miller and Madow's correction for few rows.

    Zero if the column says nothing of the class, one if it fixes it.
    """
    total = counts.sum()
    if total == 0:
        return 0.0
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    entropy = _entropy(columns / total)
    if entropy <= 0:
        return 0.0
    mutual = _entropy(rows / total) + entropy - _entropy(counts.ravel() / total)
    used_rows, used_columns = np.count_nonzero(rows), np.count_nonzero(columns)
    bias = (used_rows - 1) * (used_columns - 1) / (2 * total)
    return float(np.clip((mutual - bias) / entropy, 0.0, 1.0))


def _entropy(shares: npt.NDArray[np.float64]) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def association(column: Binned, target: Target, classes: list[Binned], values: npt.NDArray[Any]) -> float:
    """Return in [0, 1] how much a column alone says of the target.

    Theil's U for classes (mean over labels); for a number the share of its variance between the column's
    bins, adjusted for their number (eta squared).
    """
    if target.kind is not TaskKind.REGRESSION:
        return float(np.mean([uncertainty(contingency(column, one)) for one in classes]))
    return explained_variance(column, values)


def explained_variance(column: Binned, values: npt.NDArray[np.float64]) -> float:
    """Return adjusted eta squared of a number by the bins of a column."""
    known = np.isfinite(values)
    codes, present = column.codes[known], values[known]
    count = len(present)
    sizes = np.bincount(codes, minlength=column.bins)
    used = int(np.count_nonzero(sizes))
    total = float(((present - present.mean()) ** 2).sum()) if count else 0.0
    if count <= used or total <= 0:
        return 0.0
    sums = np.bincount(codes, weights=present - present.mean(), minlength=column.bins)
    between = float((sums[sizes > 0] ** 2 / sizes[sizes > 0]).sum())
    share = 1 - (1 - between / total) * (count - 1) / (count - used)
    return float(np.clip(share, 0.0, 1.0))
