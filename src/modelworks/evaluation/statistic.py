"""Statistics that can be resampled: a value, its value under row multiplicities, and each row's influence on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from modelworks.evaluation.predictions import Booleans, Floats, Integers

Multiplicity = npt.NDArray[np.float32]
"""How often each row is counted in each resample, [resamples, rows]."""

Caution = Callable[[], tuple[float, float]]
"""Value and standard error after allowing for mistakes that the rows at hand happen not to show.

A bootstrap of rows that are all right knows no mistake, so its limits close in on a point. The limit on the bad side is
held at least as far out as this allows.
"""

Combine = Callable[[Floats], Floats]
"""From sums of terms [resamples, terms] to values [resamples]; must not change when all sums are scaled."""


class Statistic(Protocol):
    """A number computed from rows, able to be resampled.

    ``cells`` groups rows that are alike in everything the statistic sees, so that a resample may draw
    how often a cell is counted instead of a row; ``None`` if every row is its own cell.
    """

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def cells(self) -> Integers | None:
        """Cell of each row, or ``None``."""
        ...

    def value(self) -> float:
        """Return the statistic on the rows as they are; NaN where it is not defined."""
        ...

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        """Return the statistic with ``rows[i]`` counted ``multiplicity[b, i]`` times, for each ``b``."""
        ...

    def influence(self) -> Floats:
        """Return the derivative of the value by the count of each row; they sum to zero.

        The sum of squares estimates the variance of the value (infinitesimal jackknife; Efron, 1982).
        """
        ...


@dataclass(frozen=True)
class SumStatistic:
    """A smooth function of weighted sums over rows.

    Attributes:
        terms: What each cell adds to the sums, [cells, terms].
        combine: From sums to the value.
        cell: Cell of each row, or ``None`` if there is one cell per row.
        weight: Row weights, or ``None``.
        caution: Allowance for unseen mistakes, or ``None``.
    """

    terms: Floats
    combine: Combine
    cell: Integers | None = None
    weight: Floats | None = None
    caution: Caution | None = None

    @property
    def rows(self) -> int:
        return len(self.terms) if self.cell is None else len(self.cell)

    @property
    def cells(self) -> Integers | None:
        return self.cell if self.weight is None else None

    @cached_property
    def sums(self) -> Floats:
        if self.cell is None:
            if self.weight is None:
                return np.asarray(self.terms.sum(axis=0))
            return np.asarray(self.weight @ self.terms)
        counts = np.bincount(self.cell, weights=self.weight, minlength=len(self.terms))
        return np.asarray(counts @ self.terms, dtype=np.float64)

    def value(self) -> float:
        with np.errstate(all="ignore"):
            return float(self.combine(self.sums[None, :])[0])

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        terms = self.terms[rows if self.cell is None else self.cell[rows]]
        if self.weight is not None:
            terms = terms * self.weight[rows][:, None]
        scale = np.maximum(np.abs(terms).max(axis=0, initial=0.0), 1e-300)
        sums = (multiplicity @ (terms / scale).astype(np.float32)).astype(np.float64) * scale
        with np.errstate(all="ignore"):
            return self.combine(sums)

    def influence(self) -> Floats:
        sums = self.sums
        size = np.maximum(np.abs(sums), 1e-3 * np.abs(self.terms).sum(axis=0))
        step = np.diag(1e-5 * size)
        with np.errstate(all="ignore"):
            rise = self.combine(sums + step) - self.combine(sums - step)
            gradient = np.where(size > 0, rise / (2e-5 * size), 0.0)
        effect = self.terms @ np.nan_to_num(gradient)
        if self.cell is not None:
            effect = effect[self.cell]
        return np.asarray(effect if self.weight is None else effect * self.weight)


@dataclass(frozen=True)
class ShareStatistic:
    """A proportion ``hits / trials``, or a rising curve of one, for which an exact interval exists.

    F1 is such a curve: with ``s = TP / (TP + FP + FN)``, ``F1 = 2 s / (1 + s)``.

    Attributes:
        hits: Successes, bool [rows]; only where ``trials``.
        trials: Rows that count, bool [rows].
        weight: Row weights, or ``None``.
        curve: ``share`` or ``f1``.
    """

    hits: Booleans
    trials: Booleans
    weight: Floats | None = None
    curve: str = "share"

    def bend(self, share: Floats) -> Floats:
        """Return the value that belongs to a share."""
        return share if self.curve == "share" else 2 * share / (1 + share)

    @cached_property
    def sums(self) -> SumStatistic:
        cell = self.hits.astype(np.int64) + self.trials
        terms = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        return SumStatistic(terms, lambda sums: self.bend(sums[:, 0] / sums[:, 1]), cell, self.weight)

    @property
    def effective(self) -> tuple[float, float]:
        """Hits and trials, scaled to Kish's effective number of trials where rows are weighted."""
        if self.weight is None:
            return float(self.hits.sum()), float(self.trials.sum())
        weight = self.weight[self.trials]
        if not weight.sum() > 0:
            return 0.0, 0.0
        trials = float(weight.sum() ** 2 / np.square(weight).sum())
        return float(self.weight[self.hits].sum() / weight.sum()) * trials, trials

    @property
    def rows(self) -> int:
        return len(self.hits)

    @property
    def cells(self) -> Integers | None:
        return self.sums.cells

    def value(self) -> float:
        return self.sums.value()

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        return self.sums.replicates(rows, multiplicity)

    def influence(self) -> Floats:
        return self.sums.influence()


@dataclass(frozen=True)
class Difference:
    """``first - second`` on the same rows, the statistic of a paired test."""

    first: Statistic
    second: Statistic

    @property
    def rows(self) -> int:
        return self.first.rows

    @property
    def cells(self) -> Integers | None:
        first, second = self.first.cells, self.second.cells
        if first is None or second is None:
            return None
        return np.asarray(first * (int(second.max(initial=0)) + 1) + second)

    def value(self) -> float:
        return self.first.value() - self.second.value()

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        return self.first.replicates(rows, multiplicity) - self.second.replicates(rows, multiplicity)

    def influence(self) -> Floats:
        return self.first.influence() - self.second.influence()


@dataclass(frozen=True)
class Mean:
    """The mean of several statistics over the same rows, e.g. one per class; undefined parts are left out."""

    parts: tuple[Statistic, ...]

    @cached_property
    def defined(self) -> tuple[Statistic, ...]:
        return tuple(part for part in self.parts if np.isfinite(part.value()))

    @property
    def rows(self) -> int:
        return self.parts[0].rows

    @property
    def cells(self) -> Integers | None:
        return None

    def value(self) -> float:
        if not self.defined:
            return float("nan")
        return float(np.mean([part.value() for part in self.defined]))

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        drawn = np.stack([part.replicates(rows, multiplicity) for part in self.defined])
        known = np.isfinite(drawn)
        with np.errstate(all="ignore"):
            return np.asarray(np.where(known, drawn, 0.0).sum(axis=0) / known.sum(axis=0))

    def influence(self) -> Floats:
        return np.asarray(np.mean([part.influence() for part in self.defined], axis=0))
