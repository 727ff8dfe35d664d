"""Rows as 64-bit keys: equal rows have equal keys; for duplicates, groups and the name of a sealed test set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.digest import digest_bytes
from modelworks.core.schema import SAMPLE_KINDS, Column, ColumnKind, Schema
from modelworks.data.typed import as_doubles, codes_and_levels

Keys = npt.NDArray[np.uint64]
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_NEAR_STEPS = 200


def row_keys(table: pa.Table, schema: Schema, names: Iterable[str], *, near: bool = False) -> Keys:
    """Return one uint64 key a row over some columns.

    Keys depend on the cells only, not on the order of rows or columns' dictionaries.

    Args:
        table, schema: The table.
        names: Columns that count.
        near: Round numbers to 1/200 of the range between their 5 % and 95 % quantiles, and ignore case and
            blanks in text, so that near-duplicates share a key.
    """
    keys = np.zeros(table.num_rows, dtype=np.uint64)
    for position, name in enumerate(names):
        cells = _cell_keys(table.column(name), schema[name], near)
        keys = mixed_keys(keys * _FACTOR + cells + np.uint64(position))
    return keys


def _cell_keys(cells: pa.ChunkedArray, column: Column, near: bool) -> Keys:
    kind = cells.type
    if column.kind in SAMPLE_KINDS:
        return np.array([_bytes_key(_payload(cell)) for cell in cells], dtype=np.uint64)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind):
        values = as_doubles(cells)
        if near and column.kind in {ColumnKind.NUMBER, ColumnKind.DATETIME}:
            values = _rounded(values)
        values = np.where(np.isnan(values), np.nan, values) + 0.0
        return np.ascontiguousarray(values).view(np.uint64)
    codes, levels = codes_and_levels(cells)
    if near:
        levels = [" ".join(level.lower().split()) for level in levels]
    hashes = [_text_key(level) for level in levels]
    return np.array([*hashes, 0], dtype=np.uint64)[codes]


def payload_keys(cells: pa.ChunkedArray) -> Keys:
    """Return one uint64 per image, text or series; equal values have equal keys."""
    found = np.zeros(len(cells), dtype=np.uint64)
    for row, cell in enumerate(cells):
        if pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type):
            data = cell.as_buffer() if cell.is_valid else b""
        elif pa.types.is_nested(cells.type):
            data = b"".join(channel.values.to_numpy().tobytes() + b"|" for channel in cell.values or ())
        else:
            data = str(cell.as_py() or "").encode("utf-8", "surrogatepass")
        found[row] = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    return found


def _rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    present = values[np.isfinite(values)]
    if len(present) == 0:
        return values
    low, high = np.quantile(present[:: max(1, len(present) // 10_000)], [0.05, 0.95])
    step = (high - low) / _NEAR_STEPS
    return np.round(values / step) if step > 0 else values


def _text_key(text: str) -> int:
    return _bytes_key(text.encode("utf-8", "replace"))


def _bytes_key(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _payload(cell: pa.Scalar) -> bytes:
    """Return the bytes of an image or series."""
    value = cell.as_py()
    return value if isinstance(value, bytes) else repr(value).encode()


def mixed_keys(keys: Keys) -> Keys:
    """Scatter bits (the finaliser of SplitMix64, Steele, Lea and Flood 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * _MIX_1
    keys = (keys ^ (keys >> np.uint64(27))) * _MIX_2
    return np.asarray(keys ^ (keys >> np.uint64(31)), dtype=np.uint64)


def sealed_digest(table: pa.Table, schema: Schema, rows: npt.NDArray[np.int64]) -> str:
    """Name a sealed test set by its content, so that looks at it can be counted wherever it turns up.

    The order of rows and the numbers they have in the table do not matter.
    """
    part = table.take(pa.array(rows))
    keys = np.sort(row_keys(part, schema, sorted(schema.names)))
    return digest_bytes(keys.astype("<u8").tobytes() + str(sorted(schema.names)).encode())
