"""Warnings about data that would make a model look better than it is, or worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.schema import ColumnKind, Schema
from modelworks.data.parts import Split
from modelworks.data.typed import codes_and_levels


def guard(
    table: pa.Table, schema: Schema, target: str | tuple[str, ...], split: Split
) -> list[dict[str, Any]]:
    """Return findings ``{code, severity, column, message, exclude}``."""
    findings: list[dict[str, Any]] = []
    targets = (target,) if isinstance(target, str) else target
    for column in schema.columns:
        if column.kind is ColumnKind.IDENTIFIER and column.name not in targets:
            findings.append(_finding("identifier", "info", column.name, f"'{column.name}' names rows.", True))
    if len(targets) == 1:
        codes, levels = codes_and_levels(table.column(targets[0]))
        for column in schema.columns:
            if column.name in targets or not 2 <= len(levels) <= 100 or column.distinct != len(levels):
                continue
            other, names = codes_and_levels(table.column(column.name))
            pairs = np.unique(codes * (len(names) + 1) + other)
            if len(pairs) == len(levels):
                message = f"'{column.name}' is the target in other words."
                findings.append(_finding("leak_copy", "error", column.name, message, True))
    return findings


def _finding(code: str, severity: str, column: str | None, message: str, exclude: bool) -> dict[str, Any]:
    return {"code": code, "severity": severity, "column": column, "message": message, "exclude": exclude}
