"""Columns that know the answer: copies of the target, columns filled after the fact, single features too good.

A column is barred only if it is a near-deterministic relabelling of the target or was filled because of it;
a strong measurement is kept, however strong, and at most warned of. See Kaufman, Rosset and Perlich,
"Leakage in data mining" (2012).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.task import TaskKind
from modelworks.data.bins import Binned, bin_column, bin_target, contingency, explained_variance
from modelworks.data.findings import Finding
from modelworks.data.target import Target
from modelworks.data.typed import as_doubles

SURE_ROWS = 30
COPY_MISMATCH = 0.001
NEAR_COPY_MISMATCH = 0.03
FILLED_ROWS = 100
FILLED_PURITY = 0.999
SUSPECT_SCORE = 0.99
SUSPECT_AREA = 0.998
ROUGHLY_APART = 0.95
LINEAR_COPY = 1e-6
_LOOKED_AT = 100_000
_CATEGORICAL = frozenset(
    {
        ColumnKind.CATEGORY,
        ColumnKind.BOOLEAN,
        ColumnKind.INTEGER_CATEGORY,
        ColumnKind.ORDERED,
        ColumnKind.TEXT,
    }
)


def find_leaks(
    table: pa.Table, schema: Schema, target: Target, names: list[str], train: npt.NDArray[np.int64]
) -> list[Finding]:
    """Look at every feature alone, on training rows only.

    Args:
        table, schema: The whole table.
        target: Target of every row of the table.
        names: Feature columns.
        train: Training rows.
    """
    rows = train if len(train) <= _LOOKED_AT else train[:: len(train) // _LOOKED_AT]
    part = table.select(names).take(pa.array(rows))
    here = Target(target.kind, target.values[rows], target.classes, target.present[rows])
    classes = bin_target(here)
    findings = []
    for name in names:
        column = schema[name]
        binned = bin_column(part, schema, name)
        found = _first(_looks(part, column, binned, here, classes))
        if found is not None:
            findings.append(found)
    return findings


def _first(looks: Iterator[Finding | None]) -> Finding | None:
    return next((found for found in looks if found is not None), None)


def _looks(
    part: pa.Table, column: Column, binned: Binned, target: Target, classes: list[Binned]
) -> Iterator[Finding | None]:
    """Yield what each look at one column finds, surest first."""
    if target.kind is TaskKind.REGRESSION:
        if column.kind in {ColumnKind.NUMBER, ColumnKind.INTEGER_CATEGORY}:
            yield _linear_copy(column, as_doubles(part.column(column.name)), target.values)
        yield _filled_for_number(column, binned, target)
        yield _explains_number(column, binned, target)
        return
    labels = target.classes if target.kind is TaskKind.MULTILABEL else ("",)
    for label, one in zip(labels, classes, strict=True):
        counts = contingency(binned, one)
        names = ("no", "yes") if target.kind is TaskKind.MULTILABEL else target.classes
        what = f"label '{label}'" if label else "the target"
        yield _copy(column, counts, binned.exact, what)
        yield _filled(column, counts, names, what)
    if target.kind is not TaskKind.MULTILABEL:
        yield _too_good(column, binned, classes[0])
        if column.kind is ColumnKind.NUMBER and classes[0].bins == 2:
            yield _separates(column, binned, as_doubles(part.column(column.name)), classes[0])


def _copy(column: Column, counts: npt.NDArray[np.float64], exact: bool, what: str) -> Finding | None:
    """Find a column whose values are the classes under other names, one to one."""
    used = counts[1:][counts[1:].sum(axis=1) > 0]
    seen = np.count_nonzero(counts.sum(axis=0))
    total = counts.sum()
    if column.kind not in _CATEGORICAL or not exact or seen < 2 or used.shape[0] < seen:
        return None
    best = used.argmax(axis=1)
    right = used.max(axis=1).sum()
    mismatch = 1 - right / total
    per_class = np.array([used[best == index].sum(axis=0)[index] for index in range(counts.shape[1])])
    recall = per_class / np.maximum(1, counts.sum(axis=0))
    recall = recall[counts.sum(axis=0) > 0]
    if used.shape[0] != seen or len(set(best)) != seen or recall.min() < 0.9:
        return None
    detail = {"mismatch": float(mismatch), "rows": int(total)}
    if mismatch <= COPY_MISMATCH and total >= SURE_ROWS:
        message = (
            f"'{column.name}' is {what} in other words: each of its {seen} values goes with one class "
            f"in {1 - mismatch:.2%} of {int(total):,} rows."
        )
        return Finding(
            code="leak_copy",
            severity="error",
            column=column.name,
            message=message,
            exclude=True,
            detail=detail,
        )
    if mismatch <= NEAR_COPY_MISMATCH and total >= SURE_ROWS:
        message = (
            f"'{column.name}' agrees with {what} in {1 - mismatch:.2%} of rows. If it is known only afterwards, "
            "exclude it."
        )
        return Finding(
            code="leak_near_copy", severity="warning", column=column.name, message=message, detail=detail
        )
    return None


def _filled(
    column: Column, counts: npt.NDArray[np.float64], names: tuple[str, ...], what: str
) -> Finding | None:
    """Find a column that is filled (or left empty) because of the answer."""
    empty, filled = counts[0], counts[1:].sum(axis=0)
    total = counts.sum(axis=0)
    for side, rows, verb in ((filled, "filled", "filled in"), (empty, "empty", "left empty")):
        count = side.sum()
        if count < SURE_ROWS or (total - side).sum() < SURE_ROWS:
            continue
        winner = int(side.argmax())
        purity = side[winner] / count
        base = total[winner] / total.sum()
        surprise = count * math.log10(max(base, 1e-300))
        share = side[winner] / total[winner]
        if purity < FILLED_PURITY or base > 0.98 or surprise > -6:
            continue
        sure = count >= FILLED_ROWS and share >= 0.5 and surprise < -12
        message = (
            f"'{column.name}' is {verb} only where {what} is '{names[winner]}' ({purity:.2%} of {int(count):,} "
            f"{rows} rows, {share:.0%} of that class): it looks like a column {verb} after the fact."
        )
        return Finding(
            code="leak_filled_after",
            severity="error" if sure else "warning",
            column=column.name,
            message=message,
            exclude=sure,
            detail={"purity": float(purity), "rows": int(count), "share": float(share)},
        )
    return None


def _too_good(column: Column, binned: Binned, classes: Binned) -> Finding | None:
    """Warn of one feature that nearly knows the class of rows it was not counted on (two halves, crossed)."""
    known = np.flatnonzero(classes.codes >= 0)
    if len(known) < 2 * SURE_ROWS:
        return None
    halves = [
        contingency(_rows(binned, known[start::2]), _rows(classes, known[start::2])) for start in (0, 1)
    ]
    right = np.zeros(classes.bins)
    for learned, judged in (halves, halves[::-1]):
        guess = np.where(learned.sum(axis=1) > 0, learned.argmax(axis=1), int(learned.sum(axis=0).argmax()))
        right += np.bincount(guess, weights=judged[np.arange(len(guess)), guess], minlength=classes.bins)
    sizes = halves[0].sum(axis=0) + halves[1].sum(axis=0)
    recall = float((right[sizes > 0] / sizes[sizes > 0]).mean())
    chance = 1 / np.count_nonzero(sizes)
    score = (recall - chance) / (1 - chance)
    if score < SUSPECT_SCORE:
        return None
    message = (
        f"'{column.name}' alone tells the classes apart on unseen rows (balanced accuracy {recall:.2%}). "
        "If it is known only afterwards, exclude it."
    )
    detail = {"balanced_accuracy": recall}
    return Finding(
        code="leak_suspect", severity="warning", column=column.name, message=message, detail=detail
    )


def _separates(
    column: Column, binned: Binned, values: npt.NDArray[np.float64], classes: Binned
) -> Finding | None:
    """Warn of a number whose order alone parts two classes (area under the ROC curve, by ranks)."""
    counts = contingency(binned, classes)
    if counts.max(axis=1).sum() < ROUGHLY_APART * counts.sum():
        return None
    known = np.isfinite(values) & (classes.codes >= 0)
    first, second = np.sort(values[known & (classes.codes == 0)]), values[known & (classes.codes == 1)]
    if min(len(first), len(second)) < SURE_ROWS:
        return None
    below = np.searchsorted(first, second, "left") + np.searchsorted(first, second, "right")
    area = float(below.sum()) / (2 * len(first) * len(second))
    area = max(area, 1 - area)
    if area < SUSPECT_AREA:
        return None
    message = (
        f"'{column.name}' alone puts the classes in order (area under the ROC curve {area:.4f}). "
        "If it is known only afterwards, exclude it."
    )
    detail = {"roc_auc": area}
    return Finding(
        code="leak_suspect", severity="warning", column=column.name, message=message, detail=detail
    )


def _rows(binned: Binned, rows: npt.NDArray[np.int64]) -> Binned:
    return Binned(binned.codes[rows], binned.bins)


def _linear_copy(
    column: Column, values: npt.NDArray[np.float64], target: npt.NDArray[np.float64]
) -> Finding | None:
    """Find a number that is the target in another unit."""
    both = np.isfinite(values) & np.isfinite(target)
    if both.sum() < SURE_ROWS or both.sum() < 0.5 * np.isfinite(target).sum():
        return None
    x, y = values[both], target[both]
    if len(np.unique(y[:1000])) < 5:
        return None
    x, y = x - x.mean(), y - y.mean()
    spread = float((x * x).sum() * (y * y).sum())
    if spread <= 0:
        return None
    unexplained = 1 - float((x * y).sum()) ** 2 / spread
    if unexplained > 1e-3:
        return None
    sure = unexplained <= LINEAR_COPY
    message = (
        f"'{column.name}' follows the target on a straight line "
        f"(all but {max(unexplained, 0):.1e} of its variance)."
    )
    if not sure:
        message += " If it is known only afterwards, exclude it."
    return Finding(
        code="leak_copy" if sure else "leak_near_copy",
        severity="error" if sure else "warning",
        column=column.name,
        message=message,
        exclude=sure,
        detail={"unexplained": max(unexplained, 0.0), "rows": int(both.sum())},
    )


def _filled_for_number(column: Column, binned: Binned, target: Target) -> Finding | None:
    """Warn of a column that is missing exactly where a number takes one common value."""
    values = target.values
    known = np.isfinite(values)
    empty = (binned.codes == 0) & known
    if empty.sum() < SURE_ROWS or (known & ~empty).sum() < SURE_ROWS:
        return None
    inside = values[empty]
    levels, counts = np.unique(inside, return_counts=True)
    level = levels[counts.argmax()]
    same = known & (values == level)
    agree = float((same == empty)[known].mean())
    if agree < FILLED_PURITY:
        return None
    message = (
        f"'{column.name}' is empty exactly where the target is {level:g}: it looks filled in after the fact."
    )
    return Finding(
        code="leak_filled_after",
        severity="error",
        column=column.name,
        message=message,
        exclude=bool(empty.sum() >= FILLED_ROWS),
        detail={"agreement": agree},
    )


def _explains_number(column: Column, binned: Binned, target: Target) -> Finding | None:
    share = explained_variance(binned, target.values)
    levels = len(np.unique(target.values[np.isfinite(target.values)][:5000]))
    if share < SUSPECT_SCORE or levels < 5:
        return None
    message = (
        f"'{column.name}' alone explains {share:.1%} of the target's variance. If it is known only afterwards, "
        "exclude it."
    )
    return Finding(
        code="leak_suspect",
        severity="warning",
        column=column.name,
        message=message,
        detail={"explained": share},
    )
