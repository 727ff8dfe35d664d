"""Dealing rows to folds: even in every stratum, whole groups together, or in blocks of time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
_GREEDY_GROUPS = 3000


def fold_count(rows: int, units: int) -> int:
    """Return the number of folds: five, fewer if there are fewer than 25 rows or 5 groups."""
    return int(max(2, min(5, rows // 5, units)))


def stratified_folds(
    strata: Integers, units: Integers, count: int, generator: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Deal units (groups of rows that stay together) to folds, each stratum evenly.

    Args:
        strata: Stratum of each row; a unit belongs to the stratum of its first row.
        units: Unit of each row.
        count: Number of folds.
        generator: Source of chance.

    Returns:
        int8 fold of each row.
    """
    _, first, unit_of = np.unique(units, return_index=True, return_inverse=True)
    order = np.lexsort((generator.random(len(first)), strata[first]))
    dealt = np.empty(len(first), dtype=np.int8)
    dealt[order] = np.arange(len(first)) % count
    return np.asarray(dealt[unit_of], dtype=np.int8)


def grouped_folds(
    strata: Integers, groups: Integers, count: int, generator: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Deal whole groups to folds so that sizes and strata come out even.

    Largest groups first, each to the fold where the sum of squared shares grows least (as scikit-learn's
    StratifiedGroupKFold does); with very many groups they are dealt by stratum instead.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    number = int(group_of.max()) + 1
    if number > _GREEDY_GROUPS:
        return stratified_folds(strata, groups, count, generator)
    _, stratum_of = np.unique(strata, return_inverse=True)
    kinds = int(stratum_of.max()) + 1
    counts = np.bincount(group_of * kinds + stratum_of, minlength=number * kinds).reshape(number, kinds)
    shares = counts / np.maximum(1, counts.sum(axis=0))
    order = np.lexsort((generator.random(number), -counts.sum(axis=1)))
    filled = np.zeros((count, kinds))
    sizes = np.zeros(count)
    dealt = np.empty(number, dtype=np.int8)
    total = len(strata)
    for group in order:
        cost = ((filled + shares[group]) ** 2 - filled**2).sum(axis=1) / kinds
        size = counts[group].sum() / total
        cost += (sizes + size) ** 2 - sizes**2
        best = int(np.argmin(cost))
        dealt[group] = best
        filled[best] += shares[group]
        sizes[best] += size
    return np.asarray(dealt[group_of], dtype=np.int8)


def blocked_folds(moments: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int8]:
    """Cut rows into blocks of time, fold 0 the earliest (blocked cross-validation, Bergmeir et al. 2018).

    Rows of one moment stay together.
    """
    order = np.argsort(moments, kind="stable")
    ranks = np.empty(len(moments), dtype=np.int64)
    ranks[order] = np.arange(len(moments))
    _, first, inverse = np.unique(moments[order], return_index=True, return_inverse=True)
    start = np.empty(len(moments), dtype=np.int64)
    start[order] = first[inverse]
    return np.asarray(np.minimum(start * count // max(1, len(moments)), count - 1), dtype=np.int8)
