"""Cells of JSON rows gathered into typed Arrow columns, a block of rows at a time."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from modelworks.core.errors import LimitError
from modelworks.data.options import TableLimits

BLOCK_ROWS = 20_000


class JsonColumns:
    """Cells by column name. A column that appears late is missing before; nested objects become ``a.b``.

    Args:
        limits: Columns, rows and nesting that are refused.
        name: Source name for messages.
    """

    def __init__(self, limits: TableLimits, name: str) -> None:
        self.rows = 0
        self._limits = limits
        self._name = name
        self._cells: dict[str, list[Any]] = {}
        self._blocks: dict[str, list[pa.Array]] = {}
        self._sizes: list[int] = []
        self._in_block = 0

    def add_row(self, value: dict[str, Any]) -> None:
        """Append one object.

        Raises:
            LimitError: Too many rows or columns, or it nests too deep.
        """
        self._add(value, "", 1)
        self.rows += 1
        self._in_block += 1
        if self.rows > self._limits.rows:
            raise self._too_many("rows", self._limits.rows, "MW2013")
        if len(self._cells) > self._limits.columns:
            raise self._too_many("columns", self._limits.columns, "MW2011")
        if self._in_block == BLOCK_ROWS:
            self._seal()

    def _add(self, value: dict[str, Any], prefix: str, depth: int) -> None:
        if depth > self._limits.nesting:
            raise LimitError(f"'{self._name}' nests JSON too deep.", code="MW2015", where=self._name)
        for key, cell in value.items():
            if isinstance(cell, dict) and cell:
                self._add(cell, f"{prefix}{key}.", depth + 1)
                continue
            if isinstance(cell, (list, dict)):
                cell = json.dumps(cell, ensure_ascii=False) if cell else None
            column = self._cells.setdefault(prefix + key, [])
            if len(column) > self._in_block:
                column[self._in_block] = cell
                continue
            column.extend([None] * (self._in_block - len(column)))
            column.append(cell)

    def _too_many(self, what: str, limit: int, code: str) -> LimitError:
        return LimitError(
            f"'{self._name}' has more than {limit:,} {what}.",
            code=code,
            where=self._name,
            hint=f"take a part of it, or raise the limit '{what}'",
        )

    def fill(self, columns: dict[str, Any]) -> None:
        """Take an object of whole columns (lists, or objects from row name to cell) as the table."""
        cells = {
            key: list(column.values()) if isinstance(column, dict) else list(column)
            for key, column in columns.items()
        }
        for row in range(len(next(iter(cells.values())))):
            self.add_row({key: column[row] for key, column in cells.items()})

    def _seal(self) -> None:
        """Turn the cells gathered so far into arrays, which take a tenth of the memory."""
        for key, column in self._cells.items():
            column.extend([None] * (self._in_block - len(column)))
            blocks = self._blocks.setdefault(key, [])
            blocks.extend(pa.nulls(size) for size in self._sizes[len(blocks) :])
            blocks.append(_array(column))
            self._cells[key] = []
        self._sizes.append(self._in_block)
        self._in_block = 0

    def arrays(self) -> dict[str, pa.ChunkedArray]:
        """Return every column in one type."""
        if self._in_block:
            self._seal()
        return {key: _one_type(blocks) for key, blocks in self._blocks.items()}


def _array(cells: list[Any]) -> pa.Array:
    kinds = {type(cell) for cell in cells} - {type(None)}
    if not kinds:
        return pa.nulls(len(cells))
    if kinds == {bool}:
        return pa.array(cells, pa.bool_())
    if kinds == {int}:
        try:
            return pa.array(cells, pa.int64())
        except OverflowError:
            kinds = {int, str}
    if kinds <= {int, float}:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    return pa.array([None if cell is None else _text(cell) for cell in cells], pa.string())


def _one_type(blocks: list[pa.Array]) -> pa.ChunkedArray:
    kinds = {block.type for block in blocks} - {pa.null()}
    if not kinds:
        kind = pa.string()
    elif len(kinds) == 1:
        kind = kinds.pop()
    else:
        kind = pa.float64() if kinds == {pa.int64(), pa.float64()} else pa.string()
    return pa.chunked_array([block.cast(kind) for block in blocks], type=kind)


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(cell, ensure_ascii=False)
