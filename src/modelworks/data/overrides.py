"""Column kinds set by the user: their levels are found anew, and kinds that cannot be are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from modelworks.core.errors import DataError
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.data.lexicons import natural_order
from modelworks.data.target import order_classes
from modelworks.data.typed import as_doubles, as_microseconds, codes_and_levels

_LEVELLED = frozenset(
    {ColumnKind.CATEGORY, ColumnKind.ORDERED, ColumnKind.BOOLEAN, ColumnKind.INTEGER_CATEGORY}
)
_MAX_LEVELS = 1000


def with_kinds(table: pa.Table, schema: Schema, kinds: dict[str, str]) -> Schema:
    """Return a schema with some kinds set by the user, checked against the table.

    Args:
        table, schema: The ingested table.
        kinds: Column name -> kind.

    Raises:
        DataError: There is no such column or kind, or the cells cannot be read that way.
    """
    named = schema.with_kinds(kinds)
    return replace(
        named,
        columns=tuple(
            _checked(table, column) if column.name in kinds else column for column in named.columns
        ),
    )


def _checked(table: pa.Table, column: Column) -> Column:
    cells = table.column(column.name)
    present = len(cells) - cells.null_count
    if column.kind is ColumnKind.NUMBER and np.isfinite(as_doubles(cells)).sum() < 0.5 * present:
        raise _unfit(column, "most cells are not numbers")
    if column.kind is ColumnKind.DATETIME:
        read = int(np.sum(as_microseconds(cells) != np.iinfo(np.int64).min))
        if read < 0.5 * present:
            raise _unfit(column, "most cells are not date-times")
    if column.kind not in _LEVELLED:
        return replace(column, levels=None)
    levels = [level for level in codes_and_levels(cells)[1] if level]
    if column.kind is ColumnKind.BOOLEAN and len(levels) > 2:
        raise _unfit(column, f"it has {len(levels)} values")
    if len(levels) > _MAX_LEVELS:
        return replace(column, levels=None)
    blank = replace(column, levels=None)
    known = natural_order(levels) if column.kind is ColumnKind.ORDERED else None
    return replace(column, levels=tuple(known[0] if known else order_classes(blank, levels)))


def _unfit(column: Column, why: str) -> DataError:
    return DataError(
        f"Column '{column.name}' cannot be {column.kind.value}: {why}.", code="MW1106", where=column.name
    )
