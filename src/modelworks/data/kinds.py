"""Deciding what each column means, with the reason in words."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.schema import Column, ColumnKind, Schema


def infer_schema(table: pa.Table) -> Schema:
    """Return the kind of every column of a typed table."""
    return Schema(
        columns=tuple(_infer(name, table.column(name)) for name in table.column_names), rows=table.num_rows
    )


def _infer(name: str, column: pa.ChunkedArray) -> Column:
    missing = column.null_count
    present = len(column) - missing
    distinct = pc.count_distinct(
        column if not pa.types.is_dictionary(column.type) else column.cast(pa.string())
    ).as_py()
    kind, reason = _kind(column, present, distinct)
    levels = None
    if kind in (ColumnKind.BOOLEAN, ColumnKind.CATEGORY, ColumnKind.INTEGER_CATEGORY) and distinct <= 1000:
        from modelworks.data.target import order_classes
        from modelworks.data.typed import codes_and_levels

        blank = Column(name=name, kind=kind)
        levels = tuple(order_classes(blank, codes_and_levels(column)[1]))
    return Column(name=name, kind=kind, levels=levels, missing=missing, distinct=distinct, reason=reason)


def _kind(column: pa.ChunkedArray, present: int, distinct: int) -> tuple[ColumnKind, str]:
    if distinct <= 1:
        return ColumnKind.CONSTANT, "one value" if distinct else "no value"
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return ColumnKind.DATETIME, "date-times"
    if distinct == 2:
        return ColumnKind.BOOLEAN, "two values"
    if pa.types.is_integer(column.type):
        if distinct <= 10:
            return ColumnKind.INTEGER_CATEGORY, f"{distinct} whole numbers"
        return ColumnKind.NUMBER, "whole numbers"
    if pa.types.is_floating(column.type):
        return ColumnKind.NUMBER, "numbers"
    if distinct == present and present > 20:
        return ColumnKind.IDENTIFIER, "every value occurs once"
    return ColumnKind.CATEGORY, f"{distinct} texts"
