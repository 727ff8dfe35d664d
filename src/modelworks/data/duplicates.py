"""Rows that come twice: in all, across the parts, nearly, and with different answers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.schema import Schema
from modelworks.core.task import TaskKind
from modelworks.data.findings import Finding
from modelworks.data.rowkeys import Keys, row_keys
from modelworks.data.target import Target

NATURAL_GROUP = 20
NOTICED_SHARE = 0.01
CONFLICT_SHARE = 0.02


def find_duplicates(
    table: pa.Table,
    schema: Schema,
    target: Target,
    names: list[str],
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
) -> list[Finding]:
    """Look for rows whose features are equal, or nearly equal, to another row's."""
    if not names:
        return []
    keys = row_keys(table, schema, names)
    near = row_keys(table, schema, names, near=True)
    return find_copies(keys, target, train, test, near)


def find_copies(
    keys: Keys,
    target: Target,
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    near: Keys | None = None,
) -> list[Finding]:
    """Look for rows with equal keys, or equal ``near`` keys."""
    findings = _across("duplicates_across", "equal", 0.05, keys, (train, test))
    if not findings and near is not None:
        findings += _across("near_duplicates_across", "nearly equal", 0.2, near, (train, test))
    ordered = np.sort(keys[train])
    repeated = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
    if repeated > NOTICED_SHARE * len(train):
        findings.append(
            Finding(
                code="duplicates",
                severity="info",
                message=f"{repeated:,} of {len(train):,} training rows repeat the features of another one.",
                detail={"rows": repeated},
            )
        )
    return findings + _conflicts(keys, target, train)


def _across(
    code: str,
    how: str,
    serious: float,
    keys: Keys,
    parts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> list[Finding]:
    """Count sealed rows that also train; a row that comes very often is the nature of the data, not a fault."""
    train, test = parts
    levels, sizes = np.unique(keys, return_counts=True)
    rare = sizes[np.searchsorted(levels, keys[test])] <= NATURAL_GROUP
    shared = int((np.isin(keys[test], keys[train]) & rare).sum())
    share = shared / max(1, len(test))
    if shared == 0 or share < NOTICED_SHARE:
        return []
    return [
        Finding(
            code=code,
            severity="warning" if share >= serious else "info",
            message=(
                f"{shared:,} of {len(test):,} sealed rows ({share:.1%}) have features {how} to a training row's; "
                "the score may be better than on new rows."
            ),
            detail={"rows": shared, "share": share},
        )
    ]


def _conflicts(keys: Keys, target: Target, train: npt.NDArray[np.int64]) -> list[Finding]:
    """Find equal rows with different classes: a floor under the error of any model."""
    if target.kind in {TaskKind.REGRESSION, TaskKind.MULTILABEL}:
        return []
    _, group, sizes = np.unique(keys[train], return_inverse=True, return_counts=True)
    if sizes.max(initial=1) == 1:
        return []
    number = len(target.classes)
    pairs, counts = np.unique(group * number + target.values[train], return_counts=True)
    best = np.zeros(len(sizes), dtype=np.int64)
    np.maximum.at(best, pairs // number, counts)
    floor = int((sizes - best).sum())
    share = floor / len(train)
    if share < CONFLICT_SHARE:
        return []
    return [
        Finding(
            code="conflicting_labels",
            severity="warning",
            message=(
                f"{floor:,} training rows ({share:.1%}) have another answer than most rows equal to them; "
                "no model can get these right."
            ),
            detail={"rows": floor, "share": share},
        )
    ]
