"""Warnings about data that would make a model look better than it is, or worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.schema import FEATURE_KINDS, ColumnKind, Schema
from modelworks.core.task import TaskKind
from modelworks.data.drift import find_drift
from modelworks.data.duplicates import find_duplicates
from modelworks.data.findings import Finding
from modelworks.data.kinds import is_id_name
from modelworks.data.leaks import find_leaks
from modelworks.data.parts import Split
from modelworks.data.target import Target, infer_task_kind, read_target
from modelworks.data.typed import codes_and_levels

FEW_ROWS = 100
FEW_OF_CLASS = 20
FEW_TEST_ROWS = 50
RARE_SHARE = 0.05
_ORDER = {"error": 0, "warning": 1, "info": 2}


def guard(
    table: pa.Table,
    schema: Schema,
    target: str | Sequence[str],
    split: Split,
    kind: TaskKind | None = None,
) -> list[dict[str, Any]]:
    """Look for leaks, identifiers, duplicates, imbalance, drift and too little data.

    Args:
        table, schema: The whole table.
        target: Target column or columns.
        split: The parts that will be used.
        kind: Kind of task; ``None`` lets the data decide.

    Returns:
        Findings ``{code, severity, column, message, exclude, detail}``, gravest first. ``exclude`` says that the
        column is barred from the model (sure leaks, identifiers, constants).
    """
    targets = (target,) if isinstance(target, str) else tuple(target)
    kind = kind or infer_task_kind(table, schema, target)[0]
    answer = read_target(table, schema, target, kind)
    findings = _unusable(schema, targets)
    names = [
        column.name
        for column in schema.columns
        if column.kind in FEATURE_KINDS and column.name not in targets
    ]
    findings += find_leaks(table, schema, answer, names, split.train)
    findings += find_duplicates(table, schema, answer, names, split.train, split.test)
    findings += balance_findings(answer, split)
    findings += amount_findings(answer, split, len(names))
    findings += find_drift(table, schema, names, split.train, split.test)
    findings += _structure(table, schema, targets, split)
    return in_order_of_gravity(findings)


def in_order_of_gravity(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as plain data, gravest first."""
    return [finding.to_json() for finding in sorted(findings, key=lambda finding: _ORDER[finding.severity])]


def _unusable(schema: Schema, targets: tuple[str, ...]) -> list[Finding]:
    findings = []
    for column in schema.columns:
        if column.name in targets:
            continue
        if column.kind is ColumnKind.IDENTIFIER:
            message = f"'{column.name}' names rows ({column.reason}); a model cannot learn from it."
            findings.append(
                Finding(code="identifier", severity="info", column=column.name, message=message, exclude=True)
            )
        elif column.kind is ColumnKind.CONSTANT:
            message = f"'{column.name}' says nothing: {column.reason}."
            findings.append(
                Finding(code="constant", severity="info", column=column.name, message=message, exclude=True)
            )
    return findings


def balance_findings(answer: Target, split: Split) -> list[Finding]:
    """Name classes and labels that are scarce among the training rows."""
    if answer.kind is TaskKind.REGRESSION:
        return []
    if answer.kind is TaskKind.MULTILABEL:
        return _label_balance(answer, split)
    counts = np.bincount(answer.values[split.train], minlength=len(answer.classes))
    findings = []
    scarce = [
        f"'{name}' ({count})"
        for name, count in zip(answer.classes, counts, strict=True)
        if count < FEW_OF_CLASS
    ]
    if scarce:
        shown = ", ".join(scarce[:5]) + (" ..." if len(scarce) > 5 else "")
        findings.append(
            Finding(
                code="scarce_class",
                severity="warning",
                message=(
                    f"{len(scarce)} of {len(counts)} classes have fewer than {FEW_OF_CLASS} training rows: {shown}."
                ),
                detail={"classes": len(scarce)},
            )
        )
    share = float(counts.min() / max(1, counts.sum()))
    if len(counts) == 2 and share < RARE_SHARE:
        rare = answer.classes[int(counts.argmin())]
        findings.append(
            Finding(
                code="imbalance",
                severity="warning",
                message=f"'{rare}' is {share:.2%} of training rows; accuracy would flatter any model.",
                detail={"share": share},
            )
        )
    return findings


def _label_balance(answer: Target, split: Split) -> list[Finding]:
    positives = (answer.values[split.train] == 1).sum(axis=0)
    scarce = [name for name, count in zip(answer.classes, positives, strict=True) if count < FEW_OF_CLASS]
    if not scarce:
        return []
    message = f"{len(scarce)} labels have fewer than {FEW_OF_CLASS} positive training rows: {', '.join(scarce[:5])}."
    return [Finding(code="scarce_class", severity="warning", message=message, detail={"labels": len(scarce)})]


def amount_findings(answer: Target, split: Split, features: int) -> list[Finding]:
    """Say where there are too few rows to learn from, or to judge by."""
    findings = []
    rows = len(split.train)
    if rows < FEW_ROWS:
        message = f"Only {rows} training rows: expect wide intervals and an unstable model."
        findings.append(Finding(code="few_rows", severity="warning", message=message, detail={"rows": rows}))
    elif rows < 2 * features:
        message = f"{rows:,} training rows for {features:,} columns: chance patterns are likely."
        findings.append(
            Finding(code="few_rows_per_column", severity="warning", message=message, detail={"rows": rows})
        )
    if len(split.test) < FEW_TEST_ROWS:
        message = f"Only {len(split.test)} sealed rows: the gate can decide little on them."
        findings.append(
            Finding(
                code="few_test_rows", severity="warning", message=message, detail={"rows": len(split.test)}
            )
        )
    if answer.kind not in {TaskKind.REGRESSION, TaskKind.MULTILABEL}:
        unseen = set(answer.values[split.test].tolist()) - set(answer.values[split.train].tolist())
        if unseen:
            names = ", ".join(answer.classes[code] for code in sorted(unseen))
            findings.append(
                Finding(
                    code="class_only_in_test",
                    severity="warning",
                    message=f"Only the test part has the class(es) {names}.",
                )
            )
    return findings


def _structure(table: pa.Table, schema: Schema, targets: tuple[str, ...], split: Split) -> list[Finding]:
    """Ask, for rows parted at random, whether they belong together by subject or follow each other in time."""
    if split.policy != "random":
        return []
    findings = _dated(schema, targets)
    for column in schema.columns:
        if column.name in targets or column.kind not in FEATURE_KINDS or not is_id_name(column.name):
            continue
        rows = schema.rows - column.missing
        if column.kind is ColumnKind.BOOLEAN or not 10 <= column.distinct <= rows / 2:
            continue
        codes = codes_and_levels(table.column(column.name))[0]
        shared = float(np.isin(codes[split.test], codes[split.train]).mean())
        findings.append(
            Finding(
                code="groups_across",
                severity="warning",
                column=column.name,
                message=(
                    f"{shared:.0%} of sealed rows share their '{column.name}' with training rows. If new rows come "
                    f"with new ones, use split: {{group: {column.name}}}."
                ),
                detail={"share": shared},
            )
        )
    return findings


def _dated(schema: Schema, targets: tuple[str, ...]) -> list[Finding]:
    for column in schema.columns:
        dated = column.kind is ColumnKind.DATETIME and column.name not in targets
        if dated and column.distinct > 0.1 * schema.rows and column.missing < 0.01 * schema.rows:
            message = (
                f"Rows carry a date ('{column.name}') and were parted at random. If the model is meant for later "
                f"rows, use split: {{time: {column.name}}}."
            )
            return [Finding(code="dated_rows", severity="info", column=column.name, message=message)]
    return []
