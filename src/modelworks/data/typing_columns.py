"""From raw batches to the typed table: text is read as numbers, dates or categories column by column."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.errors import DataError
from modelworks.data.cells import as_texts, read_cells, trimmed
from modelworks.data.moments import compact_dates
from modelworks.data.options import ReadOptions

_MOMENT_NAME = re.compile(
    r"(?:^|[\s_.-])(time|timestamp|ts|date|datetime|epoch|unixtime|at|on|when|day)(?:[\s_.-]|$)|[a-z](Time|Date|At)$",
    re.IGNORECASE,
)
_EPOCH_UNITS = ((1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns"))
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800


@dataclass
class TypedTable:
    """A typed table and what was noticed on the way.

    Attributes:
        table: The columns.
        notes: Column name -> what a person should know about how its cells were read.
        warnings: Counts of cells that became missing, renamed columns.
        misfits: Column name -> number of cells kept as missing because they did not fit.
    """

    table: pa.Table
    notes: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    misfits: dict[str, int] = field(default_factory=dict)


def type_raw(
    path: Path, names: list[str], options: ReadOptions, decimal: str, *, checked: bool
) -> TypedTable:
    """Type every column of ``raw.arrow``.

    Args:
        path: The raw file.
        names: Its column names as found; made unique here.
        options: What the user has set.
        decimal: Decimal mark of the file.
        checked: Whether the batches come from this process; a child's are validated first.

    Raises:
        DataError: There is no row.
    """
    with pa.memory_map(str(path), "r") as source:
        raw = pa.ipc.open_file(source).read_all()
    if raw.num_rows == 0:
        raise DataError(
            "The table has no rows.",
            code="MW1131",
            hint="check the file, or set --header if the only row was taken for names",
        )
    if not checked:
        raw.validate(full=True)
    result = TypedTable(table=raw)
    unique = unique_names(names, result.warnings)
    wanted = _wanted(unique, options)
    places = {name: place for place, name in enumerate(unique)}
    columns = []
    for name in wanted:
        columns.append(_type_column(name, raw.column(places[name]), options, decimal, result))
    result.table = pa.table(columns, names=wanted)
    return result


def unique_names(names: list[str], warnings: list[str]) -> list[str]:
    """Return names without blanks at the ends, empty ones invented and repeated ones numbered."""
    taken: set[str] = set()
    unique = []
    given = {name.strip() for name in names}
    for index, name in enumerate(names):
        plain = name.strip() or f"c{index}"
        fresh, count = plain, 1
        while fresh in taken or (fresh != name.strip() and fresh in given):
            count += 1
            fresh = f"{plain}_{count}"
        if fresh != plain:
            warnings.append(f"the column name '{plain}' occurs more than once; one was renamed '{fresh}'")
        taken.add(fresh)
        unique.append(fresh)
    return unique


def _wanted(names: list[str], options: ReadOptions) -> list[str]:
    if options.columns is None:
        return names
    for name in options.columns:
        if name not in names:
            from modelworks.core.errors import close_matches

            raise DataError(f"There is no column '{name}'.{close_matches(name, names)}", code="MW1101")
    return [name for name in names if name in options.columns]


def _type_column(
    name: str, cells: pa.ChunkedArray, options: ReadOptions, decimal: str, result: TypedTable
) -> pa.ChunkedArray:
    kind = cells.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if options.kinds.get(name) in {"category", "text", "identifier", "ordered"}:
            chunks = [as_texts(chunk) for chunk in trimmed(cells.chunks, options)]
            return _joined(chunks)
        chunks, reading = read_cells(cells.chunks, options, decimal)
        if reading.note:
            result.notes[name] = reading.note
        if reading.misfits:
            result.misfits[name] = reading.misfits
            result.notes[name] = (
                f"{reading.misfits} cells that do not fit are missing, such as '{reading.examples[0]}'"
            )
        if reading.not_finite > 0:
            result.warnings.append(
                f"column '{name}': {reading.not_finite} infinite or NaN cells became missing"
            )
        joined = _joined(chunks)
        return _whole_as_moments(name, joined, result) if pa.types.is_integer(joined.type) else joined
    if pa.types.is_duration(kind):
        result.notes[name] = "durations in seconds"
        return pc.divide(pc.cast(pc.cast(cells, pa.int64()), pa.float64()), 1e6)
    if pa.types.is_timestamp(kind):
        return pc.cast(cells, pa.timestamp("us"), safe=False) if kind.tz is None else _utc(cells)
    if pa.types.is_floating(kind):
        return _finite(name, cells, result)
    if pa.types.is_integer(kind):
        return _whole_as_moments(name, cells, result)
    return cells


def _utc(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.cast(cells, pa.int64()), pa.timestamp("us"))


def _joined(chunks: list[pa.Array]) -> pa.ChunkedArray:
    kinds = {chunk.type for chunk in chunks}
    if len(kinds) > 1:
        chunks = [
            chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk for chunk in chunks
        ]
    joined = pa.chunked_array(chunks)
    return joined.unify_dictionaries() if pa.types.is_dictionary(joined.type) else joined


def _finite(name: str, cells: pa.ChunkedArray, result: TypedTable) -> pa.ChunkedArray:
    finite = pc.is_finite(cells)
    if pc.all(finite).as_py() is not False:
        return cells
    infinite = pc.sum(pc.is_inf(cells)).as_py() or 0
    if infinite:
        result.warnings.append(f"column '{name}': {infinite} infinite cells became missing")
    return pc.if_else(finite, cells, None)


def _whole_as_moments(name: str, cells: pa.ChunkedArray, result: TypedTable) -> pa.ChunkedArray:
    """Turn whole numbers into date-times if name and range say so (epoch counts, or 20240131)."""
    values: npt.NDArray[Any] = cells.drop_null().to_numpy()
    if len(values) == 0:
        return cells
    if compact_dates(values) and (len(np.unique(values[:1000])) >= 20 or _MOMENT_NAME.search(name)):
        days = pc.strptime(pc.cast(cells, pa.string()), format="%Y%m%d", unit="us", error_is_null=True)
        if days.null_count == cells.null_count:
            result.notes[name] = "dates written year month day"
            return days
    if _MOMENT_NAME.search(name) is None:
        return cells
    for scale, unit in _EPOCH_UNITS:
        if values.min() >= _EARLIEST * scale and values.max() <= _LATEST * scale:
            result.notes[name] = f"counted in {unit} since 1970"
            return pc.cast(pc.cast(cells, pa.timestamp(unit)), pa.timestamp("us"), safe=False)
    return cells
