"""Putting a ready-made test table behind its training table, its cells brought to the training table's types."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.errors import DataError, close_matches
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import MISSING_DATETIME
from modelworks.data.typed import as_doubles, as_microseconds, as_strings


@dataclass(frozen=True)
class Joined:
    """Training rows with test rows behind them.

    Attributes:
        table, schema: Both parts; kinds and levels are those of the training table.
        sealed: int64 row numbers of the test part.
        notes: What had to be changed in the test table.
    """

    table: pa.Table
    schema: Schema
    sealed: npt.NDArray[np.int64]
    notes: tuple[str, ...]


def join_test_table(table: pa.Table, schema: Schema, test: pa.Table) -> Joined:
    """Join a training table and a ready-made test table.

    Columns are matched by name, or by place if the test table has no header and as many columns. Spellings of
    a level that differ only in case, blanks or a full stop at the end are brought to the training table's.

    Args:
        table, schema: The ingested training table.
        test: The ingested test table.

    Raises:
        DataError: The test table lacks a column.
    """
    notes: list[str] = []
    test = _matched(table, test, notes)
    columns = []
    described = []
    for column in schema.columns:
        first, second = table.column(column.name), test.column(column.name)
        joined, gone = _joined(first, second, column, notes)
        columns.append(joined)
        described.append(replace(column, missing=column.missing + gone))
    whole = pa.table(columns, names=list(schema.names)).unify_dictionaries().combine_chunks()
    return Joined(
        table=whole,
        schema=Schema(columns=tuple(described), rows=whole.num_rows),
        sealed=np.arange(table.num_rows, whole.num_rows),
        notes=tuple(notes),
    )


def _matched(table: pa.Table, test: pa.Table, notes: list[str]) -> pa.Table:
    names = table.column_names
    invented = [f"c{index}" for index in range(test.num_columns)]
    if test.column_names == invented and names != invented and len(names) == len(invented):
        notes.append("the test table has no header; its columns were matched by place")
        return test.rename_columns(names)
    for name in names:
        if name not in test.column_names:
            raise DataError(
                f"The test table has no column '{name}'.{close_matches(name, test.column_names)}",
                code="MW1150",
                where=name,
                hint="give the test table the columns of the training table",
            )
    extra = [name for name in test.column_names if name not in names]
    if extra:
        notes.append(
            f"{len(extra)} columns of the test table are not in the training table: {', '.join(extra[:5])}"
        )
    return test.select(names)


def _joined(
    first: pa.ChunkedArray, second: pa.ChunkedArray, column: Column, notes: list[str]
) -> tuple[pa.ChunkedArray, int]:
    """Return both parts of one column in one type, and how many test cells are missing."""
    kind = first.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        second = _numbers(second)
        if pa.types.is_floating(second.type):
            first = pc.cast(first, pa.float64())
    elif pa.types.is_timestamp(kind):
        micros = as_microseconds(second)
        second = pa.chunked_array(
            [pa.array(micros, mask=micros == MISSING_DATETIME).cast(pa.timestamp("us"))]
        )
    elif pa.types.is_boolean(kind):
        words = np.char.lower(as_strings(second).astype(str))
        known = np.isin(words, ["true", "false"])
        second = pa.chunked_array([pa.array(words == "true", mask=~known)])
    else:
        first, second = _texts(first, second, column, notes)
    return pa.chunked_array([*first.chunks, *second.chunks], type=first.type), second.null_count


def _numbers(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_integer(cells.type):
        return cells
    values = as_doubles(cells)
    return pa.chunked_array([pa.array(values, mask=~np.isfinite(values))])


def _texts(
    first: pa.ChunkedArray, second: pa.ChunkedArray, column: Column, notes: list[str]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    texts = as_strings(second)
    if column.kind not in {ColumnKind.TEXT, ColumnKind.IDENTIFIER}:
        known: set[Any] = set(first.unique().to_pylist()) - {None}
        spelt = _spellings(known, set(texts.tolist()) - {""})
        if spelt:
            changed, to = next(iter(spelt.items()))
            notes.append(f"column '{column.name}': '{changed}' in the test table was read as '{to}'")
            texts = np.array([spelt.get(text, text) for text in texts.tolist()], dtype=object)
    cells = pa.array(texts, pa.string(), mask=texts == "")
    if pa.types.is_dictionary(first.type):
        return first, pa.chunked_array([cells.dictionary_encode()])
    return first, pa.chunked_array([cells.cast(first.type)])


def _spellings(known: set[Any], found: set[Any]) -> dict[str, str]:
    """Return unknown spellings that stand for exactly one known level."""
    plain: dict[str, list[str]] = {}
    for level in known:
        plain.setdefault(_plain(level), []).append(level)
    matches = {text: plain.get(_plain(text), []) for text in found - known}
    return {text: levels[0] for text, levels in matches.items() if len(levels) == 1}


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()
