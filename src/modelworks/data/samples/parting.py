"""Parting samples by lots: what a sample holds decides its side, so every task, order and retraining seals the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.errors import TaskError
from modelworks.core.schema import Schema
from modelworks.core.task import SplitPolicy, TaskKind
from modelworks.data.folds import blocked_folds, fold_count, stratified_folds
from modelworks.data.parts import MIN_ROWS, Split, stratum_codes, time_cut, time_values
from modelworks.data.rowkeys import Keys, mixed_keys, payload_keys
from modelworks.data.samples.images import PARTS, part_of
from modelworks.data.samples.ingestion import KEYS
from modelworks.data.target import Target
from modelworks.data.typed import as_strings

MARGIN = 1.5
"""A sample may be sealed if its lot is below this times the share; backbones learn from the others only. So whatever
task is sealed by class, no backbone has seen its sealed samples, and one backbone serves all tasks."""


@dataclass(frozen=True)
class Lots:
    """What decides the side of each row, the same for all tasks over a table.

    Attributes:
        lot: float64 in [0, 1) per row: equal samples (or groups) have equal lots.
        sealed: Rows of a part that came with the data or is the latest; ``None`` where lots decide.
        learn: Rows a backbone may learn from.
        order: Time of each row where the policy has one, else ``None``.
        policy: ``random``, ``group``, ``time`` or ``ready``.
        words: What was done, for people.
    """

    lot: npt.NDArray[np.float64]
    sealed: npt.NDArray[np.bool_] | None
    learn: npt.NDArray[np.bool_]
    order: npt.NDArray[np.float64] | None
    policy: str
    words: str


def sample_keys(folder: Path, table: pa.Table, payload: str) -> Keys:
    """Return one key per row of an ingested table: kept beside images and series, computed for texts."""
    if (folder / KEYS).exists():
        keys: Keys = np.load(folder / KEYS, allow_pickle=False)
        return keys
    return payload_keys(table.column(payload))


def draw_lots(
    table: pa.Table,
    schema: Schema,
    keys: Keys,
    policy: SplitPolicy,
    seed: int,
    sealed_from: int | None = None,
) -> Lots:
    """Draw the lots of a table.

    Args:
        table, schema: The ingested table.
        keys: One key per row, of its payload.
        policy: How to part. A column ``part`` with train and test rows is taken when nothing else is said.
        seed: Equal seeds give equal lots.
        sealed_from: First row of a ready-made test part.

    Raises:
        DataError: The policy names a column that is not there.
        TaskError: Its column cannot be used.
    """
    units = keys
    if policy.group is not None and policy.kind in {"auto", "group"}:
        _ = schema[policy.group]
        groups = as_strings(table.column(policy.group))
        units = np.where(groups == "", keys, payload_keys(pa.chunked_array([pa.array(groups, pa.string())])))
        if len(np.unique(units)) < 3:
            raise TaskError(
                f"Column '{policy.group}' has fewer than 3 groups; they cannot be kept apart.",
                code="MW1224",
                where=policy.group,
                hint="split: {kind: random}",
            )
    lot = mixed_keys(units ^ mixed_keys(np.full(len(units), seed, np.uint64))) / 2.0**64
    ready = _ready(table, schema, policy, sealed_from)
    if ready is not None:
        words = f"the test part of {int(ready.sum()):,} samples that came with the data is sealed"
        return Lots(lot, ready, ~ready, None, "ready", words)
    if policy.kind == "time" or (policy.kind == "auto" and policy.time and not policy.group):
        return _by_time(table, schema, policy, lot)
    share = policy.test_share
    grouped = units is not keys
    words = (
        f"whole groups of '{policy.group}' by lot (seed {seed}), about {share:.0%} sealed"
        if grouped
        else f"by lot (seed {seed}; equal samples stay together), {{stratified}}, {share:.0%} sealed"
    )
    return Lots(lot, None, lot >= min(1.0, MARGIN * share), None, "group" if grouped else "random", words)


def _ready(
    table: pa.Table, schema: Schema, policy: SplitPolicy, sealed_from: int | None
) -> npt.NDArray[np.bool_] | None:
    if sealed_from is not None:
        return np.asarray(np.arange(table.num_rows) >= sealed_from)
    if policy.kind != "auto" or policy.group or policy.time or not has_parts(table):
        return None
    found = [part_of(text) for text in as_strings(table.column(PARTS)).tolist()]
    return np.array([part == "test" for part in found])


def has_parts(table: pa.Table) -> bool:
    """Say whether a column ``part`` says of every row whether it trains or tests."""
    if PARTS not in table.column_names:
        return False
    found = {part_of(text) for text in set(as_strings(table.column(PARTS)).tolist())}
    return None not in found and {"train", "test"} <= found


def _by_time(table: pa.Table, schema: Schema, policy: SplitPolicy, lot: npt.NDArray[np.float64]) -> Lots:
    if policy.time is None:
        raise TaskError("A split by time needs a time column.", code="MW1222", hint="split: {time: COLUMN}")
    moments = time_values(table, schema, policy.time)
    known = np.sort(moments[np.isfinite(moments)])
    if len(known) < MIN_ROWS or known[0] == known[-1]:
        raise TaskError(
            f"Column '{policy.time}' does not order the rows in time.", code="MW1223", where=policy.time
        )
    sealed = moments >= time_cut(known, policy.test_share)
    words = f"the last {sealed.mean():.0%} by '{policy.time}' are sealed; folds are blocks of time"
    return Lots(lot, sealed, ~sealed, np.where(np.isfinite(moments), moments, known[0]), "time", words)


def part_samples(lots: Lots, target: Target, share: float, seed: int, *, shared: bool = False) -> Split:
    """Part the rows that have a label.

    Within each class the samples with the lowest lots are sealed; a class of two or more keeps one on either side where
    its lots allow it. With ``shared`` classes do not matter, so that all tasks over a table have the same parts.

    Args:
        lots: The lots of the table.
        target: The task's target, over all rows.
        share: Share of rows that is sealed.
        seed: Seed of the folds.
        shared: Part without a look at the classes.

    Raises:
        TaskError: Too few rows have a label, or none of them falls to one side.
    """
    rows = np.flatnonzero(target.present)
    if len(rows) < MIN_ROWS:
        raise TaskError(
            f"Only {len(rows)} samples are labelled; at least {MIN_ROWS} are needed.",
            code="MW1220",
            hint="label more samples",
        )
    strata = np.zeros(len(rows), np.int64) if shared else stratum_codes(target)[rows]
    if lots.sealed is not None:
        is_test = lots.sealed[rows]
    elif shared or lots.policy == "group":
        is_test = lots.lot[rows] < share
    else:
        is_test = _lowest(lots.lot[rows], strata, share)
    if not is_test.any() or is_test.all():
        side = "test" if not is_test.any() else "training"
        raise TaskError(
            f"The {side} part has no labelled sample.", code="MW1221", hint="label more samples, or set split"
        )
    train = np.flatnonzero(~is_test)
    units = np.unique(lots.lot[rows[train]], return_inverse=True)[1]
    count = fold_count(len(train), int(units.max()) + 1)
    folds = (
        blocked_folds(lots.order[rows[train]], count)
        if lots.order is not None
        else stratified_folds(strata[train], units, count, np.random.default_rng(seed))
    )
    by = "by value" if target.kind is TaskKind.REGRESSION else "by class"
    words = lots.words.format(stratified="alike for all tasks" if shared else by)
    unlabelled = int(len(target.present) - len(rows))
    if unlabelled:
        words += f"; {unlabelled:,} samples without a label set aside"
    return Split(
        train=rows[train],
        test=rows[is_test],
        folds=folds,
        method=words,
        policy=lots.policy,
        unlabelled=unlabelled,
        duplicates=int(len(train) - (units.max() + 1)),
    )


def _lowest(
    lot: npt.NDArray[np.float64], strata: npt.NDArray[np.int64], share: float
) -> npt.NDArray[np.bool_]:
    """Seal in each stratum the samples with the lowest lots, none above the margin, never a whole stratum.

    Copies of one sample stay together and belong to the stratum of the first of them, whatever their labels say.
    """
    levels, first, unit, sizes = np.unique(lot, return_index=True, return_inverse=True, return_counts=True)
    sealed = np.zeros(len(levels), bool)
    for stratum in np.unique(strata[first]):
        members = np.flatnonzero(strata[first] == stratum)[:-1]
        if not len(members):
            continue
        reached = np.cumsum(sizes[members]) - sizes[members] / 2
        total = sizes[strata[first] == stratum].sum()
        chosen = (reached <= share * total) | (np.arange(len(members)) == 0)
        sealed[members] = chosen & (levels[members] < MARGIN * share)
    return np.asarray(sealed[unit], dtype=bool)
