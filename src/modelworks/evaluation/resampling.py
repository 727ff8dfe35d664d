"""Drawing resamples: Poisson counts of rows, or of groups of equal rows, shared by many statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from modelworks.evaluation.predictions import Floats, Integers
from modelworks.evaluation.statistic import Multiplicity, Statistic

MOST_DRAWS = 2_000_000
"""Row counts drawn for one bootstrap; bounds its CPU time to well under a tenth of a second."""

RESAMPLES = (400, 1000)
"""Fewest and most resamples; in between as many as ``MOST_DRAWS`` allows."""

ROWS_FOR_BOOTSTRAP = MOST_DRAWS // RESAMPLES[0]
"""Above this many rows the delta method is as good, and free."""

_CHUNK = 1_000_000


def resamples_for(rows: int) -> int:
    """Return how many resamples are drawn for so many rows."""
    fewest, most = RESAMPLES
    return max(fewest, min(most, MOST_DRAWS // max(rows, 1)))


def replicate(statistics: Sequence[Statistic], rng: np.random.Generator) -> list[Floats]:
    """Return the bootstrap distribution of each statistic; all see the same resampled rows.

    Rows are counted by independent Poisson(1) variables (Chamandy et al., 2012), which equals multinomial
    resampling for statistics that do not change when all counts are scaled. Rows that a statistic cannot tell apart
    are drawn together: a sum of Poisson counts is a Poisson count.
    """
    if not statistics:
        return []
    found: list[Floats] = [np.empty(0)] * len(statistics)
    by_row: list[int] = []
    for index, statistic in enumerate(statistics):
        groups = _groups(statistic)
        if groups is None:
            by_row.append(index)
            continue
        rows, counts = groups
        drawn = rng.poisson(counts, size=(RESAMPLES[1], len(rows))).astype(np.float32)
        found[index] = statistic.replicates(rows, drawn)
    if by_row:
        chosen = [statistics[index] for index in by_row]
        for index, values in zip(by_row, _replicate_rows(chosen, rng), strict=True):
            found[index] = values
    return found


def _groups(statistic: Statistic) -> tuple[Integers, Integers] | None:
    """Return one row of each cell and the cell's size, where that saves draws."""
    cells = statistic.cells
    if cells is None:
        return None
    _, rows, counts = np.unique(cells, return_index=True, return_counts=True)
    if len(rows) * RESAMPLES[1] > statistic.rows * resamples_for(statistic.rows):
        return None
    return rows, counts


def _replicate_rows(statistics: Sequence[Statistic], rng: np.random.Generator) -> list[Floats]:
    rows = np.arange(statistics[0].rows)
    total = resamples_for(len(rows))
    step = max(1, _CHUNK // len(rows))
    parts: list[list[Floats]] = [[] for _ in statistics]
    for start in range(0, total, step):
        drawn = poisson_ones(rng, min(step, total - start), len(rows))
        for values, statistic in zip(parts, statistics, strict=True):
            values.append(statistic.replicates(rows, drawn))
    return [np.concatenate(values) for values in parts]


def poisson_ones(rng: np.random.Generator, resamples: int, rows: int) -> Multiplicity:
    """Draw Poisson(1) counts by table, ten times faster than one by one; float32 [resamples, rows]."""
    return _poisson_table()[rng.integers(0, 65536, size=(resamples, rows), dtype=np.uint16)]


@cache
def _poisson_table() -> Multiplicity:
    mass = [math.exp(-1) / math.factorial(count) for count in range(8)]
    edges = np.round(np.cumsum(mass) * 65536)
    return np.searchsorted(edges, np.arange(65536), side="right").astype(np.float32)
