"""How well scores rank positives above negatives: area under the ROC curve and average precision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modelworks.evaluation.predictions import Booleans, Floats, Integers
from modelworks.evaluation.statistic import Mean, Multiplicity, Statistic


@dataclass(frozen=True)
class RocAuc:
    """Probability that a positive scores above a negative, ties counted half.

    Attributes:
        scores: float64 [rows].
        positive: bool [rows].
        weight: Row weights, or ``None``.
        known: Rows that count, or ``None`` for all.
    """

    scores: Floats
    positive: Booleans
    weight: Floats | None = None
    known: Booleans | None = None

    @property
    def rows(self) -> int:
        return len(self.scores)

    @property
    def cells(self) -> Integers | None:
        return None

    @cached_property
    def parts(self) -> tuple[Integers, Integers]:
        """Row numbers of positives and negatives."""
        known = np.ones(self.rows, dtype=bool) if self.known is None else self.known
        return np.flatnonzero(self.positive & known), np.flatnonzero(~self.positive & known)

    @cached_property
    def counts(self) -> tuple[float, float]:
        """Effective numbers of positives and negatives (Kish)."""
        sizes = []
        for part in self.parts:
            weight = np.ones(len(part)) if self.weight is None else self.weight[part]
            square = float(np.square(weight).sum())
            sizes.append(float(weight.sum()) ** 2 / square if square > 0 else 0.0)
        return sizes[0], sizes[1]

    @cached_property
    def placements(self) -> tuple[Floats, Floats]:
        """For each positive the share of negatives below it, for each negative the share of positives above.

        DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), by sorting (Sun and Xu, 2014).
        """
        above, below = self.parts
        weight = np.ones(self.rows) if self.weight is None else self.weight
        return (
            _share_below(self.scores[above], self.scores[below], weight[below]),
            1.0 - _share_below(self.scores[below], self.scores[above], weight[above]),
        )

    def value(self) -> float:
        above, _ = self.parts
        if min(self.counts) <= 0:
            return float("nan")
        weight = None if self.weight is None else self.weight[above]
        return float(np.average(self.placements[0], weights=weight))

    def influence(self) -> Floats:
        effect = np.zeros(self.rows)
        auc = self.value()
        for part, placement, size in zip(self.parts, self.placements, self.counts, strict=True):
            weight = np.ones(len(part)) if self.weight is None else self.weight[part]
            # A sample of m gives the variance with m - 1; DeLong's estimate does the same.
            small = np.sqrt(size / (size - 1)) if size > 1.5 else 1.0
            effect[part] = weight * (placement - auc) / weight.sum() * small
        return effect

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        weight = None if self.weight is None else self.weight[rows].astype(np.float32)
        counted = multiplicity if weight is None else multiplicity * weight
        if self.known is not None:
            counted = counted * self.known[rows]
        positive, scores = self.positive[rows], self.scores[rows]
        order = np.argsort(scores[~positive], kind="stable")
        negatives = counted[:, ~positive][:, order].astype(np.float64)
        total = np.concatenate([np.zeros((len(counted), 1)), np.cumsum(negatives, axis=1)], axis=1)
        sorted_scores = scores[~positive][order]
        low = np.searchsorted(sorted_scores, scores[positive], side="left")
        high = np.searchsorted(sorted_scores, scores[positive], side="right")
        below = 0.5 * (total[:, low] + total[:, high])
        mass = counted[:, positive]
        with np.errstate(all="ignore"):
            return np.asarray(np.einsum("bi,bi->b", mass, below) / mass.sum(axis=1) / total[:, -1])


def _share_below(scores: Floats, others: Floats, weight: Floats) -> Floats:
    """Return for each score the weighted share of ``others`` below it, ties counted half."""
    order = np.argsort(others, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    ordered = others[order]
    low = np.searchsorted(ordered, scores, side="left")
    high = np.searchsorted(ordered, scores, side="right")
    with np.errstate(all="ignore"):
        return np.asarray(0.5 * (total[low] + total[high]) / total[-1])


@dataclass(frozen=True)
class AveragePrecision:
    """Mean precision over the positives, taken at each positive's own threshold (no interpolation)."""

    scores: Floats
    positive: Booleans
    weight: Floats | None = None
    known: Booleans | None = None

    @property
    def rows(self) -> int:
        return len(self.scores)

    @property
    def cells(self) -> Integers | None:
        return None

    @cached_property
    def steps(self) -> tuple[Integers, Floats, Floats]:
        """Threshold group of each row (highest scores first), positive and negative weight of each group."""
        weight = np.ones(self.rows) if self.weight is None else self.weight
        if self.known is not None:
            weight = weight * self.known
        _, group = np.unique(-self.scores, return_inverse=True)
        size = int(group.max()) + 1
        return (
            group,
            np.bincount(group, weights=weight * self.positive, minlength=size).astype(np.float64),
            np.bincount(group, weights=weight * ~self.positive, minlength=size).astype(np.float64),
        )

    def value(self) -> float:
        _, positive, negative = self.steps
        total = positive.sum()
        if total <= 0:
            return float("nan")
        true, false = np.cumsum(positive), np.cumsum(negative)
        return float((positive * true / np.maximum(true + false, 1e-300)).sum() / total)

    def influence(self) -> Floats:
        group, positive, negative = self.steps
        true, false = np.cumsum(positive), np.cumsum(negative)
        named = np.maximum(true + false, 1e-150)
        total = positive.sum()
        gain = np.cumsum((positive * false / named**2)[::-1])[::-1]
        loss = np.cumsum((positive * true / named**2)[::-1])[::-1]
        effect = np.where(self.positive, (true / named + gain)[group] - self.value(), -loss[group]) / total
        if self.weight is not None:
            effect = effect * self.weight
        return np.asarray(effect if self.known is None else effect * self.known)

    def caution(self) -> tuple[float, float]:
        """Return value and standard error after adding one row with a turned label, spread over all rows.

        The one failure that Clopper and Pearson's lower limit adds to a proportion, for a ranking.
        """
        weight = np.ones(self.rows) if self.weight is None else self.weight
        turned = weight / self.rows
        augmented = AveragePrecision(
            np.concatenate([self.scores, self.scores]),
            np.concatenate([self.positive, ~self.positive]),
            np.concatenate([weight, turned]),
            None if self.known is None else np.concatenate([self.known, self.known]),
        )
        own, added = np.split(augmented.influence() ** 2, 2)
        return augmented.value(), float(np.sqrt(own.sum() + self.rows * added.sum()))

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        counted = multiplicity if self.weight is None else multiplicity * self.weight[rows].astype(np.float32)
        if self.known is not None:
            counted = counted * self.known[rows]
        scores, positive = self.scores[rows], self.positive[rows]
        order = np.argsort(-scores, kind="stable")
        hits = positive[order]
        columns = counted[:, order]
        mass = columns[:, hits]
        true = np.cumsum(mass, axis=1, dtype=np.float64)
        false = np.cumsum(columns[:, ~hits], axis=1, dtype=np.float64)
        false = np.concatenate([np.zeros((len(counted), 1)), false], axis=1)
        ranked, falling = -scores[order][hits], -scores[order][~hits]
        last = np.searchsorted(ranked, ranked, side="right") - 1
        true = true[:, last]
        named = true + false[:, np.searchsorted(falling, ranked, side="right")]
        with np.errstate(all="ignore"):
            precision = np.where(named > 0, true / named, 0.0)
            return np.asarray(np.einsum("bi,bi->b", mass, precision) / mass.sum(axis=1))


def random_order(statistic: Statistic) -> float | None:
    """Return what a ranking metric reaches on average when the rows are put in random order; ``None`` for others.

    For average precision that is above the share of positives, by about ``log(n) / n`` (Bestgen, 2015): on few rows a
    model that knows nothing would else seem to beat one that says nothing.
    """
    if isinstance(statistic, RocAuc):
        return 0.5
    if isinstance(statistic, AveragePrecision):
        known = np.ones(statistic.rows, dtype=bool) if statistic.known is None else statistic.known
        rows, positives = int(known.sum()), int((statistic.positive & known).sum())
        if rows < 2 or positives < 1:
            return None
        harmonic = float((1 / np.arange(1, rows + 1)).sum())
        return ((positives - 1) * (rows - harmonic) / (rows - 1) + harmonic) / rows
    if isinstance(statistic, Mean):
        levels = [random_order(part) for part in statistic.defined]
        if levels and all(level is not None for level in levels):
            return float(np.mean([level for level in levels if level is not None]))
    return None
