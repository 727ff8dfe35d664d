"""Parting rows into training and sealed test rows, and training rows into folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.errors import TaskError
from modelworks.core.schema import Schema
from modelworks.core.task import SplitPolicy, TaskKind
from modelworks.data.target import Target, read_target
from modelworks.data.typed import as_microseconds, codes_and_levels

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Which rows train, which are sealed.

    Attributes:
        train, test: int64 row numbers, ascending.
        folds: int8 fold number of each row of ``train``.
        method: In words what was done.
        unlabelled: Rows set aside because they have no target.
    """

    train: Rows
    test: Rows
    folds: npt.NDArray[np.int8]
    method: str
    unlabelled: int = 0


def split(
    table: pa.Table,
    schema: Schema,
    targets: str | Sequence[str],
    kind: TaskKind,
    policy: SplitPolicy,
    seed: int,
    sealed: Rows | None = None,
) -> Split:
    """Part the rows that have a target.

    Args:
        table, schema: The whole table.
        targets: Target column or columns.
        kind: Kind of task.
        policy: How to part.
        seed: Equal seeds give equal parts.
        sealed: Row numbers of a ready-made test part, instead of a share.

    Raises:
        TaskError: Too few rows, or the policy's column cannot be used.
    """
    target = read_target(table, schema, targets, kind)
    rows = np.flatnonzero(target.present)
    if len(rows) < 4:
        raise TaskError(
            f"Only {len(rows)} rows have a target; at least 4 are needed.",
            code="MW1220",
            hint="collect more labelled rows",
        )
    strata = stratum_codes(target)[rows]
    generator = np.random.default_rng(seed)
    if sealed is not None:
        is_test = np.isin(rows, sealed)
        words = "ready-made test table"
    elif policy.kind == "time" or (policy.kind == "auto" and policy.time):
        moments = as_microseconds(table.column(policy.time))[rows]
        order = np.argsort(moments, kind="stable")
        is_test = np.zeros(len(rows), dtype=bool)
        is_test[order[len(rows) - max(1, round(policy.test_share * len(rows))) :]] = True
        words = f"later rows by '{policy.time}' are sealed"
    else:
        units = np.arange(len(rows))
        words = "stratified random"
        if policy.kind == "group" or policy.group:
            units = codes_and_levels(table.column(policy.group))[0][rows]
            words = f"whole groups of '{policy.group}'"
        is_test = _random_part(strata, units, policy.test_share, generator)
    train = rows[~is_test]
    fold_count = int(max(2, min(5, len(train) // 4)))
    folds = _folds(strata[~is_test], fold_count, generator)
    return Split(train, rows[is_test], folds, words, int(table.num_rows - len(rows)))


def stratum_codes(target: Target) -> npt.NDArray[np.int64]:
    """Return a small whole number per row that folds and parts should hold in equal shares."""
    if target.kind is TaskKind.REGRESSION:
        values = target.values
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, 11)[1:-1]))
        return np.asarray(np.searchsorted(edges, values), dtype=np.int64)
    if target.kind is TaskKind.MULTILABEL:
        return np.asarray(np.minimum((target.values == 1).sum(axis=1), 8), dtype=np.int64)
    return np.asarray(target.values, dtype=np.int64)


def _random_part(
    strata: npt.NDArray[np.int64], units: npt.NDArray[np.int64], share: float, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    _, first, unit_of = np.unique(units, return_index=True, return_inverse=True)
    sizes = np.bincount(unit_of)
    chosen = np.zeros(len(first), dtype=bool)
    for stratum in np.unique(strata[first]):
        members = generator.permutation(np.flatnonzero(strata[first] == stratum))
        if len(members) < 2:
            continue
        wanted = max(1.0, share * sizes[members].sum())
        reached = np.cumsum(sizes[members]) - sizes[members] / 2
        chosen[members[reached < wanted][: len(members) - 1]] = True
    return np.asarray(chosen[unit_of], dtype=bool)


def _folds(strata: npt.NDArray[np.int64], count: int, generator: np.random.Generator) -> npt.NDArray[np.int8]:
    order = np.lexsort((generator.random(len(strata)), strata))
    folds = np.empty(len(strata), dtype=np.int8)
    folds[order] = np.arange(len(strata)) % count
    return folds
