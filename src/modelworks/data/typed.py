"""From Arrow columns to the typed arrays that model graphs take, and which tensor each column goes into."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import DATETIMES, MISSING_DATETIME, NUMBERS, STRINGS, Tensor

EXACT_IN_FP32 = 2**24
NUMERIC_BOOLEANS = frozenset({("0", "1"), ("false", "true")})
_DATATYPES = {NUMBERS: "FP32", STRINGS: "BYTES", DATETIMES: "INT64"}


def tensor_of(column: Column) -> str:
    """Return which packed tensor a column goes into: ``numbers``, ``strings`` or ``datetimes``.

    A boolean written 0/1 or true/false is a number; one written in words (``Yes``/``No``) stays text, so
    that a caller sends what the file held. An integer category is a number if every level is exact in FP32.
    """
    if column.kind is ColumnKind.NUMBER:
        return NUMBERS
    if column.kind is ColumnKind.DATETIME:
        return DATETIMES
    if column.kind is ColumnKind.BOOLEAN:
        return NUMBERS if column.levels in NUMERIC_BOOLEANS else STRINGS
    if column.kind is ColumnKind.INTEGER_CATEGORY and column.levels is not None:
        return NUMBERS if all(_exact(level) for level in column.levels) else STRINGS
    return STRINGS


def _exact(level: str) -> bool:
    try:
        return abs(int(level)) <= EXACT_IN_FP32 and str(int(level)) == level
    except ValueError:
        return False


def input_tensors(schema: Schema, names: Iterable[str]) -> tuple[Tensor, ...]:
    """Return the packed input tensors for some feature columns, empty ones left out."""
    packed: dict[str, list[str]] = {NUMBERS: [], STRINGS: [], DATETIMES: []}
    for name in names:
        packed[tensor_of(schema[name])].append(name)
    return tuple(
        Tensor(name=tensor, datatype=_DATATYPES[tensor], shape=(-1, len(columns)), columns=tuple(columns))
        for tensor, columns in packed.items()
        if columns
    )


def typed_columns(table: pa.Table, schema: Schema, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Return each column as the array ``compute.feeds.pack_columns`` wants.

    ``numbers``: float32 with NaN; ``strings``: objects of ``str`` with ""; ``datetimes``: int64
    microseconds since 1970-01-01 UTC with the missing mark.
    """
    convert = {NUMBERS: as_numbers, STRINGS: as_strings, DATETIMES: as_microseconds}
    return {name: convert[tensor_of(schema[name])](table.column(name)) for name in names}


def as_numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """Return float32; missing, unreadable and infinite values are NaN."""
    values = as_doubles(column)
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def as_doubles(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Return float64; missing and unreadable values are NaN."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        array = _one_array(column)
        levels = np.array([_float(level) for level in array.dictionary.to_pylist()] + [np.nan])
        return levels[_codes(array)]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array([_float(cell) for cell in column.to_pylist()], dtype=np.float64)
    if pa.types.is_timestamp(kind):
        column = pc.cast(column, pa.int64())
    values = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return np.array(values, dtype=np.float64)


def number_array(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return an integer or float column as numpy: int64 if nothing is missing, else float64 with NaN."""
    return np.asarray(_one_array(column).to_numpy(zero_copy_only=False))


def as_strings(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """Return objects of ``str``; missing is ""; whole numbers carry no decimal point."""
    array = _one_array(column)
    if not pa.types.is_dictionary(array.type):
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            return np.array(array.fill_null("").to_numpy(zero_copy_only=False), dtype=object)
        array = array.dictionary_encode()
    levels = np.array([_text(level) for level in array.dictionary.to_pylist()] + [""], dtype=object)
    return np.asarray(levels[_codes(array)], dtype=object)


def as_microseconds(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return int64 microseconds since 1970-01-01 UTC; missing is ``MISSING_DATETIME``."""
    array = _one_array(column)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        array = pc.cast(array, pa.timestamp("us", getattr(array.type, "tz", None)), safe=False)
        array = pc.cast(array, pa.int64())
    elif pa.types.is_dictionary(array.type) or pa.types.is_string(array.type):
        array = pc.cast(_moments(array), pa.int64())
    return np.array(pc.cast(array, pa.int64(), safe=False).fill_null(MISSING_DATETIME), dtype=np.int64)


def _moments(texts: pa.Array) -> pa.Array:
    from modelworks.data.moments import find_pattern, read_moments

    plain = texts.cast(pa.string())
    cells = plain.drop_null().unique().to_pylist()[:1000]
    pattern = find_pattern(cells, None, 0.5 * len(cells))
    return pa.nulls(len(plain), pa.timestamp("us")) if pattern is None else read_moments(plain, pattern)


def codes_and_levels(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return ``(codes, levels)``: an index per row into the present values as text; missing is ``-1``."""
    array = _one_array(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    levels = [_text(level) for level in array.dictionary.to_pylist()]
    return _codes(array), levels


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        if pa.types.is_dictionary(column.type) and column.num_chunks > 1:
            column = column.unify_dictionaries()
        combined = column.combine_chunks()
        if isinstance(combined, pa.ChunkedArray):
            return combined.chunk(0) if combined.num_chunks else pa.array([], type=combined.type)
        return combined
    return column


def _codes(array: pa.DictionaryArray) -> npt.NDArray[np.int64]:
    return np.array(pc.cast(array.indices, pa.int64()).fill_null(-1), dtype=np.int64)


def _float(value: Any) -> float:
    try:
        return float("nan") if value is None else float(value)
    except (TypeError, ValueError):
        return float("nan")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
