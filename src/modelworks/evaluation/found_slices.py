"""Looking for weak slices nobody declared: single values and pairs of values where the loss is worse than elsewhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.task import TaskKind
from modelworks.evaluation.multilabel_metrics import cell_log_loss, known_cells
from modelworks.evaluation.multiplicity import benjamini_hochberg
from modelworks.evaluation.predictions import Floats, Integers, Predictions
from modelworks.evaluation.probability_metrics import row_log_loss
from modelworks.evaluation.regression_metrics import errors
from modelworks.evaluation.slices import value_groups

FEWEST_ROWS = 50
FALSE_DISCOVERIES = 0.05
SMALLEST_EFFECT = 0.2
MOST_SHOWN = 10
MOST_ROWS = 20_000
MOST_COLUMNS = 50
PAIRED_COLUMNS = 8


@dataclass(frozen=True)
class _Candidates:
    """Slices of one column or one pair: sums per cell and what each cell is called."""

    columns: tuple[str, ...]
    names: tuple[list[str], ...]
    rows: Floats
    total: Floats
    square: Floats

    def describe(self, cell: int) -> list[tuple[str, str]]:
        """Return ``(column, value)`` of a cell."""
        if len(self.columns) == 1:
            return [(self.columns[0], self.names[0][cell])]
        first, second = divmod(cell, len(self.names[1]))
        return [(self.columns[0], self.names[0][first]), (self.columns[1], self.names[1][second])]


def found_slices(predictions: Predictions, columns: Mapping[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    """Search columns and pairs of columns for slices on which the loss is worse than on the other rows.

    Every value (or quarter of a number's range) with 50 rows or more is compared with the rest of the rows by
    Welch's test on the row loss; the false discovery rate over all candidates, tried or not, is held at 5 %, and
    effects under 0.2 standard deviations are left out. Pairs are tried among the eight columns whose values
    differ most. The idea is Slice Finder's (Chung et al., ICDE 2019).

    Returns:
        At most ten records ``{slice, where, n, loss, loss_elsewhere, difference, low, high, effect, p_adjusted, of}``,
        the largest effect first. ``of`` names the loss; ``low`` and ``high`` are the 95 % interval of the difference.
    """
    loss, unit = row_loss(predictions)
    if predictions.rows < 2 * FEWEST_ROWS or not columns:
        return []
    chosen = np.arange(predictions.rows)
    if predictions.rows > MOST_ROWS:
        chosen = np.linspace(0, predictions.rows - 1, MOST_ROWS).astype(np.int64)
    loss = loss[chosen]
    names = list(columns)[:MOST_COLUMNS]
    groups = {name: value_groups(np.asarray(columns[name])[chosen]) for name in names}
    singles = [_candidates((name,), (groups[name],), loss) for name in names]
    strength = [float(np.max(_tests(item, loss)[0], initial=-math.inf)) for item in singles]
    strongest = [names[index] for index in np.argsort(strength)[::-1][:PAIRED_COLUMNS]]
    pairs = [
        _candidates(pair, (groups[pair[0]], groups[pair[1]]), loss)
        for pair in itertools.combinations(strongest, 2)
    ]
    # The pairs were picked by looking, so the whole family of pairs counts as tried.
    sizes = [len(groups[name][1]) for name in names]
    family = sum(sizes) + (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2
    return _significant([*singles, *pairs], loss, family, unit)


def row_loss(predictions: Predictions) -> tuple[Floats, str]:
    """Return one bounded loss per row and its name; extremes are cut so that single rows make no slice."""
    if predictions.kind is TaskKind.REGRESSION:
        absolute = np.abs(errors(predictions))
        return np.minimum(absolute, np.quantile(absolute, 0.99)), "absolute error"
    if predictions.kind is TaskKind.ANOMALY:
        return np.asarray(predictions.label != predictions.truth, dtype=np.float64), "wrong alarms"
    if predictions.kind is TaskKind.FORECAST:
        loss = np.nanmean(np.abs(errors(predictions)), axis=1)
        return np.minimum(loss, np.nanquantile(loss, 0.99)), "absolute error"
    if predictions.kind is TaskKind.MULTILABEL:
        known = known_cells(predictions)
        loss = np.where(known, cell_log_loss(predictions), 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return np.minimum(loss, 4.0), "log loss"
    return np.minimum(row_log_loss(predictions), 4.0), "log loss"


def _candidates(
    columns: tuple[str, ...], groups: tuple[tuple[Integers, list[str]], ...], loss: Floats
) -> _Candidates:
    code, size = groups[0][0], len(groups[0][1])
    if len(groups) == 2:
        code = code * len(groups[1][1]) + groups[1][0]
        size *= len(groups[1][1])
    return _Candidates(
        columns=columns,
        names=tuple(names for _, names in groups),
        rows=np.bincount(code, minlength=size).astype(np.float64),
        total=np.bincount(code, weights=loss, minlength=size).astype(np.float64),
        square=np.bincount(code, weights=loss**2, minlength=size).astype(np.float64),
    )


def _tests(candidates: _Candidates, loss: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return per cell Welch's z, the difference of mean losses, its standard error and the mean elsewhere."""
    rest = len(loss) - candidates.rows
    usable = (candidates.rows >= FEWEST_ROWS) & (rest >= FEWEST_ROWS)
    inside_rows = np.maximum(candidates.rows, 2)
    rest_rows = np.maximum(rest, 2)
    inside = candidates.total / inside_rows
    outside = (loss.sum() - candidates.total) / rest_rows
    spread = np.maximum(candidates.square / inside_rows - inside**2, 0) / (inside_rows - 1)
    rest_square = np.maximum(np.square(loss).sum() - candidates.square, 0) / rest_rows
    spread += np.maximum(rest_square - outside**2, 0) / (rest_rows - 1)
    error = np.sqrt(np.maximum(spread, 1e-300))
    z = np.where(usable & (spread > 0), (inside - outside) / error, -np.inf)
    return z, inside - outside, error, outside


def _significant(candidates: list[_Candidates], loss: Floats, family: int, unit: str) -> list[dict[str, Any]]:
    records = []
    z_values = []
    deviation = float(loss.std()) or 1.0
    for item in candidates:
        z, gap, error, outside = _tests(item, loss)
        for cell in np.flatnonzero(np.isfinite(z)).tolist():
            z_values.append(float(z[cell]))
            records.append((item, cell, float(gap[cell]), float(error[cell]), float(outside[cell])))
    adjusted = benjamini_hochberg([0.5 * math.erfc(z / math.sqrt(2)) for z in z_values], family)
    kept = [
        (record, p)
        for record, p in zip(records, adjusted, strict=True)
        if p <= FALSE_DISCOVERIES and record[2] >= SMALLEST_EFFECT * deviation
    ]
    kept.sort(key=lambda entry: -entry[0][2])
    shown: list[dict[str, Any]] = []
    singles = {item.describe(cell)[0]: gap for (item, cell, gap, _, _), _ in kept if len(item.columns) == 1}
    for (item, cell, worse, deviates, usual), p in kept:
        where = item.describe(cell)
        # A pair that is hardly worse than one of its halves says nothing new.
        if len(where) == 2 and any(worse < 1.25 * singles.get(half, -math.inf) for half in where):
            continue
        shown.append(
            {
                "slice": " and ".join(f"{column} = {value}" for column, value in where),
                "where": [list(half) for half in where],
                "n": int(item.rows[cell]),
                "loss": usual + worse,
                "loss_elsewhere": usual,
                "difference": worse,
                "low": worse - 1.96 * deviates,
                "high": worse + 1.96 * deviates,
                "effect": worse / deviation,
                "p_adjusted": p,
                "of": unit,
            }
        )
    return shown[:MOST_SHOWN]
