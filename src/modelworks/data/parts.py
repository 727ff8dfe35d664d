"""Parting rows into training and sealed test rows, and training rows into folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.errors import TaskError
from modelworks.core.schema import FEATURE_KINDS, ColumnKind, Schema
from modelworks.core.task import SplitPolicy, TaskKind
from modelworks.data.folds import blocked_folds, fold_count, grouped_folds, stratified_folds
from modelworks.data.rowkeys import row_keys
from modelworks.data.target import Target, read_target
from modelworks.data.typed import as_doubles, as_microseconds, codes_and_levels

Rows = npt.NDArray[np.int64]
MIN_ROWS = 4
NATURAL_DUPLICATES = 0.5
NATURAL_GROUP = 20
TARGET_STRATA = 10


@dataclass(frozen=True)
class Split:
    """Which rows train, which are sealed.

    Attributes:
        train, test: int64 row numbers, ascending.
        folds: int8 fold number of each row of ``train``.
        method: In words what was done.
        policy: ``random``, ``group``, ``time`` or ``ready``.
        unlabelled: Rows set aside because they have no target.
        duplicates: Rows that repeat an earlier row and were kept on its side.
    """

    train: Rows
    test: Rows
    folds: npt.NDArray[np.int8]
    method: str
    policy: str = "random"
    unlabelled: int = 0
    duplicates: int = 0


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
        DataError: The policy names a column that is not there.
        TaskError: Too few rows, or the policy's column cannot be used.
    """
    target = read_target(table, schema, targets, kind)
    rows = np.flatnonzero(target.present)
    if len(rows) < MIN_ROWS:
        raise TaskError(
            f"Only {len(rows)} rows have a target; at least {MIN_ROWS} are needed.",
            code="MW1220",
            hint="collect more labelled rows",
        )
    maker = _Maker(table, schema, rows, stratum_codes(target)[rows], np.random.default_rng(seed))
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    made = maker.make(policy, sealed, names)
    unlabelled = int(table.num_rows - len(rows))
    stratified = "by value" if kind is TaskKind.REGRESSION else "by class"
    words = made.words.format(stratified=stratified, seed=seed)
    if unlabelled:
        words += f"; {unlabelled:,} rows without a target set aside"
    return Split(
        train=rows[~made.is_test],
        test=rows[made.is_test],
        folds=made.folds,
        method=words,
        policy=made.policy,
        unlabelled=unlabelled,
        duplicates=made.duplicates,
    )


def stratum_codes(target: Target) -> npt.NDArray[np.int64]:
    """Return a small whole number per row whose values both parts and all folds should hold in equal shares.

    The class; for a number its decile; for several labels the rarest label a row has.
    """
    values = target.values
    if target.kind is TaskKind.REGRESSION:
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, TARGET_STRATA + 1)[1:-1]))
        return np.asarray(np.searchsorted(edges, values), dtype=np.int64)
    if target.kind is TaskKind.MULTILABEL:
        has = values == 1
        order = np.argsort(has.sum(axis=0), kind="stable")
        rarest = np.argmax(has[:, order], axis=1)
        return np.asarray(np.where(has.any(axis=1), rarest + 1, 0), dtype=np.int64)
    return np.asarray(values, dtype=np.int64)


@dataclass(frozen=True)
class _Made:
    is_test: npt.NDArray[np.bool_]
    folds: npt.NDArray[np.int8]
    words: str
    policy: str
    duplicates: int = 0


@dataclass(frozen=True)
class _Maker:
    """Parts one set of rows; arrays are over those rows."""

    table: pa.Table
    schema: Schema
    rows: Rows
    strata: npt.NDArray[np.int64]
    generator: np.random.Generator

    def make(self, policy: SplitPolicy, sealed: Rows | None, targets: tuple[str, ...]) -> _Made:
        if sealed is not None:
            return self._ready(sealed, policy, targets)
        if policy.kind == "time" or (policy.kind == "auto" and policy.time and not policy.group):
            return self._by_time(policy)
        if policy.kind == "group" or (policy.kind == "auto" and policy.group):
            return self._by_group(policy)
        return self._at_random(policy, targets)

    def _ready(self, sealed: Rows, policy: SplitPolicy, targets: tuple[str, ...]) -> _Made:
        is_test = np.isin(self.rows, sealed)
        if not is_test.any() or is_test.all():
            side = "test" if not is_test.any() else "training"
            raise TaskError(f"The {side} table has no row with a target.", code="MW1221")
        train = np.flatnonzero(~is_test)
        if policy.group:
            folds = self._group_folds(self._groups(policy.group), train)
        elif policy.time:
            moments = self._moments(policy.time)
            folds = blocked_folds(moments[train], fold_count(len(train), len(train)))
        else:
            units, _ = self._duplicate_units(targets)
            folds = stratified_folds(
                self.strata[train], units[train], fold_count(len(train), len(train)), self.generator
            )
        return _Made(
            is_test, folds, f"ready-made test table of {int(is_test.sum()):,} rows is sealed", "ready"
        )

    def _by_time(self, policy: SplitPolicy) -> _Made:
        if policy.time is None:
            raise TaskError(
                "A split by time needs a time column.", code="MW1222", hint="split: {time: COLUMN}"
            )
        moments = self._moments(policy.time)
        undated = ~np.isfinite(moments)
        dated = np.sort(moments[~undated])
        if len(dated) < MIN_ROWS or dated[0] == dated[-1]:
            raise TaskError(
                f"Column '{policy.time}' does not order the rows in time.", code="MW1223", where=policy.time
            )
        cut = time_cut(dated, policy.test_share)
        is_test = ~undated & (moments >= cut)
        moments = np.where(undated, dated[0], moments)
        train = moments[~is_test]
        folds = blocked_folds(train, fold_count(len(train), len(np.unique(train))))
        words = f"the last {is_test.mean():.0%} by '{policy.time}' are sealed; folds are blocks of time"
        if undated.any():
            words += f"; {int(undated.sum()):,} rows without a time train"
        return _Made(is_test, folds, words, "time")

    def _by_group(self, policy: SplitPolicy) -> _Made:
        if policy.group is None:
            raise TaskError(
                "A grouped split needs a group column.", code="MW1222", hint="split: {group: COLUMN}"
            )
        groups = self._groups(policy.group)
        number = len(np.unique(groups))
        if number < 3:
            raise TaskError(
                f"Column '{policy.group}' has {number} groups; at least 3 are needed to keep groups apart.",
                code="MW1224",
                where=policy.group,
                hint="split: {kind: random}",
            )
        is_test = random_part(self.strata, groups, policy.test_share, self.generator)
        folds = self._group_folds(groups, np.flatnonzero(~is_test))
        sealed = len(np.unique(groups[is_test]))
        words = (
            f"whole groups of '{policy.group}', stratified {{stratified}}, at random (seed {{seed}}): "
            f"{sealed:,} of {number:,} groups ({is_test.mean():.0%} of rows) are sealed; folds hold whole groups"
        )
        return _Made(is_test, folds, words, "group")

    def _at_random(self, policy: SplitPolicy, targets: tuple[str, ...]) -> _Made:
        units, repeated = self._duplicate_units(targets)
        is_test = random_part(self.strata, units, policy.test_share, self.generator)
        train = np.flatnonzero(~is_test)
        folds = stratified_folds(
            self.strata[train], units[train], fold_count(len(train), len(train)), self.generator
        )
        words = f"stratified {{stratified}}, at random (seed {{seed}}), {is_test.mean():.0%} sealed"
        if repeated:
            words += f"; {repeated:,} duplicate rows kept with their first"
        return _Made(is_test, folds, words, "random", repeated)

    def _group_folds(self, groups: Rows, train: Rows) -> npt.NDArray[np.int8]:
        count = fold_count(len(train), len(np.unique(groups[train])))
        return grouped_folds(self.strata[train], groups[train], count, self.generator)

    def _groups(self, name: str) -> npt.NDArray[np.int64]:
        _ = self.schema[name]
        codes = codes_and_levels(self.table.column(name))[0][self.rows]
        alone = codes < 0
        codes[alone] = codes.max(initial=0) + 1 + np.arange(int(alone.sum()))
        return codes

    def _moments(self, name: str) -> npt.NDArray[np.float64]:
        return time_values(self.table, self.schema, name)[self.rows]

    def _duplicate_units(self, targets: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], int]:
        """Return a unit per row (equal rows share one) and how many rows repeat an earlier one.

        Where most rows repeat, or one row comes more than 20 times, repetition is the nature of the data and
        not a fault: such rows stand alone, for keeping them together would bend the distribution of a part.
        """
        alone = np.arange(len(self.rows))
        names = [
            column.name
            for column in self.schema.columns
            if column.kind in FEATURE_KINDS and column.name not in targets
        ]
        if not names:
            return alone, 0
        keys: npt.NDArray[Any] = row_keys(self.table, self.schema, names)[self.rows]
        _, units, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        together = sizes[sizes <= NATURAL_GROUP]
        repeated = int(together.sum() - len(together))
        if repeated == 0 or len(keys) - len(sizes) > NATURAL_DUPLICATES * len(keys):
            return alone, 0
        return np.where(sizes[units] <= NATURAL_GROUP, units, len(sizes) + alone), repeated


def time_values(table: pa.Table, schema: Schema, name: str) -> npt.NDArray[np.float64]:
    """Return a column that orders the rows in time as numbers, missing = NaN.

    Raises:
        TaskError: The column holds neither moments nor numbers.
    """
    column = schema[name]
    cells = table.column(name)
    if column.kind is ColumnKind.DATETIME:
        micros = as_microseconds(cells)
        return np.where(micros == np.iinfo(np.int64).min, np.nan, micros.astype(np.float64))
    values = as_doubles(cells)
    if not np.isfinite(values).any():
        raise TaskError(
            f"Column '{name}' is {column.kind.value}, not a time.",
            code="MW1223",
            where=name,
            hint="--kind datetime",
        )
    return values


def time_cut(dated: npt.NDArray[np.float64], share: float) -> float:
    """Return the first moment of the sealed part; rows of one moment are never parted."""
    cut = float(dated[len(dated) - max(1, round(share * len(dated)))])
    if cut > dated[0]:
        return cut
    return float(dated[np.searchsorted(dated, dated[0], "right")])


def random_part(
    strata: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
    share: float,
    generator: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Choose whole units at random until each stratum has its share sealed.

    A stratum of two or more units gets at least one on either side.
    """
    _, first, unit_of = np.unique(units, return_index=True, return_inverse=True)
    sizes = np.bincount(unit_of)
    _, stratum = np.unique(strata[first], return_inverse=True)
    order = np.lexsort((generator.random(len(first)), stratum))
    ordered_stratum, ordered_sizes = stratum[order], sizes[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered_stratum[1:] != ordered_stratum[:-1])))
    members = np.diff(np.append(starts, len(order)))
    before = np.cumsum(ordered_sizes) - ordered_sizes
    reached = before - np.repeat(before[starts], members) + ordered_sizes / 2
    wanted = np.repeat(share * np.add.reduceat(ordered_sizes, starts), members)
    place = np.arange(len(order)) - np.repeat(starts, members)
    chosen = (reached <= wanted) | (place == 0)
    chosen &= np.repeat(members, members) >= 2
    chosen &= place < np.repeat(members, members) - 1
    if not chosen.any():
        chosen[int(np.argmin(ordered_sizes))] = True
    is_test = np.zeros(len(first), dtype=bool)
    is_test[order[chosen]] = True
    return np.asarray(is_test[unit_of], dtype=bool)
