"""Statistics of rows that hang together: whole series, or stretches of time, are resampled, never single rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modelworks.evaluation.predictions import Floats, Integers, Predictions
from modelworks.evaluation.statistic import Combine, Multiplicity, Statistic, SumStatistic


@dataclass(frozen=True)
class Clustered:
    """A statistic of rows whose resampling units are clusters of rows.

    Its variance, from influences summed within clusters, is the cluster-robust one (Liang and Zeger, 1986).

    Attributes:
        inner: The statistic of single rows.
        cluster: Cluster of each row, 0 to k - 1, int64 [rows].
    """

    inner: Statistic
    cluster: Integers

    @cached_property
    def members(self) -> tuple[Integers, Integers]:
        """Row numbers ordered by cluster, and where each cluster starts (one more entry than clusters)."""
        counts = np.bincount(self.cluster)
        return np.argsort(self.cluster, kind="stable"), np.concatenate([[0], np.cumsum(counts)])

    @property
    def rows(self) -> int:
        return int(self.cluster.max()) + 1

    @property
    def cells(self) -> Integers | None:
        return None

    def value(self) -> float:
        return self.inner.value()

    def replicates(self, rows: Integers, multiplicity: Multiplicity) -> Floats:
        order, starts = self.members
        sizes = starts[rows + 1] - starts[rows]
        taken = np.concatenate([order[starts[row] : starts[row + 1]] for row in rows.tolist()])
        return self.inner.replicates(taken, np.repeat(multiplicity, sizes, axis=1))

    def influence(self) -> Floats:
        effect = np.bincount(self.cluster, weights=self.inner.influence(), minlength=self.rows)
        return np.asarray(effect, dtype=np.float64)


def unclustered(statistic: Statistic) -> Statistic:
    """Return the statistic of single rows."""
    return statistic.inner if isinstance(statistic, Clustered) else statistic


def clustered(statistic: Statistic, predictions: Predictions) -> Statistic:
    """Return the statistic with the predictions' resampling units."""
    return statistic if predictions.cluster is None else Clustered(statistic, _codes(predictions.cluster))


def summed(terms: Floats, combine: Combine, predictions: Predictions) -> SumStatistic:
    """Return a function of sums over rows, ``terms`` [rows, k], summed within resampling units first."""
    if predictions.cluster is None:
        return SumStatistic(terms, combine, None, predictions.weight)
    if predictions.weight is not None:
        terms = terms * predictions.weight[:, None]
    cluster = _codes(predictions.cluster)
    total = np.zeros((int(cluster.max()) + 1, terms.shape[1]))
    np.add.at(total, cluster, terms)
    return SumStatistic(total, combine)


def _codes(cluster: Integers) -> Integers:
    _, codes = np.unique(cluster, return_inverse=True)
    return np.asarray(codes, dtype=np.int64)
