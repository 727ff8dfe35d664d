"""Deciding what each column means, with the reason in words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.data.lexicons import natural_order
from modelworks.data.typed import codes_and_levels, number_array

MAX_LEVELS = 1000
EXACT_ROWS = 100_000
SMALL_CATEGORY = 10
_TRUTH_WORDS = (
    ("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("off", "on"), ("0", "1"), ("nein", "ja"),
    ("non", "oui"), ("no", "si"), ("否", "是"), ("absent", "present"), ("negative", "positive"),
)  # fmt: skip
_ID_NAME = re.compile(
    r"(?:^|[\s_.-])(id|ids|uuid|guid|key|no|nr|num|number|index|serial|idx|rowid|row)$|[a-z](ID|Id|Key)$|^id[\s_.-]",
    re.IGNORECASE,
)
_CAMEL_ID = re.compile(r"[a-z](ID|Id|Key|No|Nr)$|^ID$")
_CODE_NAME = re.compile(
    r"(?:^|[\s_.-])(zip|zipcode|postal|postcode|plz|fips|naics|sic|code|cd|type|category|cat|class|group|region|dept)"
    r"(?:[\s_.-]|$)",
    re.IGNORECASE,
)
_PERSON_NAME = re.compile(r"(?:^|[\s_.-])(name|names|surname|title)$", re.IGNORECASE)


def infer_schema(table: pa.Table, notes: dict[str, str] | None = None) -> Schema:
    """Return the kind of every column of a typed table.

    Args:
        table: Typed columns.
        notes: Column name -> what was noticed while reading its cells; put behind the reason.
    """
    notes = notes or {}
    columns = []
    for name in table.column_names:
        column = infer_column(name, table.column(name))
        if note := notes.get(name):
            reason = f"{column.reason}; {note}"
            column = Column(**{**column.__dict__, "reason": reason})
        columns.append(column)
    return Schema(columns=tuple(columns), rows=table.num_rows)


def infer_column(name: str, cells: pa.ChunkedArray) -> Column:
    """Decide the kind of one typed column."""
    kind = cells.type
    missing = cells.null_count
    present = len(cells) - missing
    if present == 0:
        return Column(name=name, kind=ColumnKind.CONSTANT, missing=missing, reason="every cell is missing")
    if pa.types.is_timestamp(kind):
        return _moment_column(name, cells, missing)
    if pa.types.is_boolean(kind):
        return _truth_column(name, cells, missing)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _number_column(name, cells, missing)
    return _text_column(name, cells, missing)


def _one_value(name: str, missing: int, present: int, level: str) -> Column:
    if missing and min(missing, present) >= max(2, 0.005 * (missing + present)):
        return Column(
            name=name, kind=ColumnKind.CATEGORY, levels=(level,), missing=missing, distinct=1,
            reason="one value or missing, so whether it is filled may tell something",
        )  # fmt: skip
    return Column(
        name=name,
        kind=ColumnKind.CONSTANT,
        levels=(level,),
        missing=missing,
        distinct=1,
        reason="one value only",
    )


def _moment_column(name: str, cells: pa.ChunkedArray, missing: int) -> Column:
    values = pc.cast(cells.drop_null(), pa.int64()).to_numpy()
    distinct = len(distinct_numbers(values))
    if distinct == 1:
        return _one_value(name, missing, len(values), str(cells.drop_null()[0].as_py()))
    first, last = (np.datetime64(int(edge), "us") for edge in (values.min(), values.max()))
    return Column(
        name=name, kind=ColumnKind.DATETIME, missing=missing, distinct=distinct,
        reason=f"date-times from {str(first)[:10]} to {str(last)[:10]}",
    )  # fmt: skip


def _truth_column(name: str, cells: pa.ChunkedArray, missing: int) -> Column:
    distinct = pc.count_distinct(cells.drop_null()).as_py()
    if distinct == 1:
        level = "true" if cells.drop_null()[0].as_py() else "false"
        return _one_value(name, missing, len(cells) - missing, level)
    return Column(
        name=name, kind=ColumnKind.BOOLEAN, levels=("false", "true"), missing=missing, distinct=distinct,
        reason="true or false",
    )  # fmt: skip


def distinct_numbers(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return distinct numbers, ascending; above 100,000 rows of an even sample unless most differ there."""
    if len(values) > EXACT_ROWS:
        found = _distinct(values[:: len(values) // EXACT_ROWS])
        if SMALL_CATEGORY < len(found) < 0.5 * EXACT_ROWS:
            return found
    return _distinct(values)


def _distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    ordered = np.sort(values)
    return np.asarray(ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))])


def _number_column(name: str, cells: pa.ChunkedArray, missing: int) -> Column:
    values = number_array(cells)
    values = values[np.isfinite(values)] if missing else values
    levels = distinct_numbers(values)
    distinct = len(levels)
    whole = bool(pa.types.is_integer(cells.type) or not np.any(levels != np.floor(levels)))
    common: dict[str, Any] = {"name": name, "missing": missing, "distinct": distinct}
    if distinct == 1:
        return _one_value(name, missing, len(values), number_text(values[0]))
    if not whole:
        return Column(**common, kind=ColumnKind.NUMBER, reason=_range("numbers", levels))
    low, high = float(levels[0]), float(levels[-1])
    if distinct == 2 and (low, high) == (0, 1):
        return Column(**common, kind=ColumnKind.BOOLEAN, levels=("0", "1"), reason="0 or 1")
    if _names_rows(name, values, distinct, low, high, missing):
        reason = "whole numbers that name rows: every one occurs once"
        return Column(**common, kind=ColumnKind.IDENTIFIER, reason=reason)
    coded = _CODE_NAME.search(name) is not None and distinct <= MAX_LEVELS and distinct < 0.2 * len(values)
    if (distinct <= SMALL_CATEGORY and distinct < 0.5 * len(values)) or coded:
        texts = tuple(number_text(level) for level in levels)
        why = f"the name says it is a code; {distinct} values" if coded else f"only {distinct} whole numbers"
        return Column(**common, kind=ColumnKind.INTEGER_CATEGORY, levels=texts, reason=why)
    return Column(**common, kind=ColumnKind.NUMBER, reason=_range("whole numbers", levels))


def _names_rows(
    name: str, values: npt.NDArray[Any], distinct: int, low: float, high: float, missing: int
) -> bool:
    count = len(values)
    if count < 20 or distinct < 0.98 * count:
        return False
    if is_id_name(name):
        return True
    if distinct < count or missing:
        return False
    dense = high - low + 1 <= 1.05 * count
    steps = np.diff(values)
    counts_up = bool(np.all(steps > 0)) and float(steps.max()) <= 3 * float(np.median(steps))
    return dense or counts_up


def is_id_name(name: str) -> bool:
    """Say whether a column's name says that it names things (``id``, ``customerID``, ``unit_no``)."""
    return _ID_NAME.search(name) is not None or _CAMEL_ID.search(name) is not None


def number_text(value: float) -> str:
    """Return a number as a level's text: whole numbers without a decimal point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _range(what: str, values: npt.NDArray[Any]) -> str:
    return f"{what} from {float(values.min()):.6g} to {float(values.max()):.6g}"


def _text_column(name: str, cells: pa.ChunkedArray, missing: int) -> Column:
    present = len(cells) - missing
    coded = pa.types.is_dictionary(cells.type)
    distinct = 0 if coded else pc.count_distinct(cells.drop_null()).as_py()
    levels = codes_and_levels(cells)[1] if coded or distinct <= MAX_LEVELS else []
    distinct = len(levels) or distinct
    if distinct == 1:
        return _one_value(name, missing, present, levels[0] if levels else cells.drop_null()[0].as_py())
    common: dict[str, Any] = {"name": name, "missing": missing, "distinct": distinct}
    if levels and distinct <= MAX_LEVELS:
        words = {level.lower() for level in levels}
        for no, yes in _TRUTH_WORDS:
            if words == {no, yes}:
                pair = tuple(sorted(levels, key=lambda level: level.lower() == yes))
                return Column(
                    **common, kind=ColumnKind.BOOLEAN, levels=pair, reason=f"{pair[0]} or {pair[1]}"
                )
        ordered = natural_order(levels) if distinct <= 60 else None
        if ordered is not None:
            return Column(**common, kind=ColumnKind.ORDERED, levels=tuple(ordered[0]), reason=ordered[1])
    kind, reason = _wordy_kind(name, cells, levels, distinct, present)
    keep = kind is ColumnKind.CATEGORY and levels and distinct <= MAX_LEVELS
    return Column(**common, kind=kind, levels=tuple(sorted(levels)) if keep else None, reason=reason)


def _wordy_kind(
    name: str, cells: pa.ChunkedArray, levels: list[str], distinct: int, present: int
) -> tuple[ColumnKind, str]:
    """Tell category, free text and identifier apart by length, words and how often values repeat."""
    step = max(1, present // 400)
    sample = levels[:: max(1, len(levels) // 400)] if levels else cells.drop_null()[::step].to_pylist()
    length = sum(map(len, sample)) / len(sample)
    words = sum(_word_count(text) for text in sample) / len(sample)
    share = distinct / present
    if share > 0.95 and present >= 20:
        if (is_id_name(name) and words < 4) or words < 1.2:
            return ColumnKind.IDENTIFIER, "codes that name rows: nearly every one occurs once"
        if _PERSON_NAME.search(name) and words <= 6:
            return ColumnKind.IDENTIFIER, "names of rows: nearly every one occurs once"
        if words >= 2 or length >= 25:
            return ColumnKind.TEXT, f"free text of about {words:.0f} words"
        return ColumnKind.IDENTIFIER, "nearly every value occurs once"
    if share > 0.5 and words >= 2 and present >= 20:
        return ColumnKind.TEXT, f"short text of about {words:.0f} words that seldom repeats"
    if distinct > MAX_LEVELS and share > 0.2 and words >= 4:
        return ColumnKind.TEXT, f"free text of about {words:.0f} words"
    if distinct > 50 and (words >= 6 or (length >= 30 and words >= 3 and share > 0.05)):
        return ColumnKind.TEXT, f"free text of about {words:.0f} words"
    return ColumnKind.CATEGORY, f"{distinct} different texts that repeat"


def _word_count(text: str) -> float:
    """Count words; Chinese, Japanese and Korean text has about one word per two characters."""
    ideographs = sum("\u3040" <= mark <= "\u9fff" or "\uac00" <= mark <= "\ud7a3" for mark in text)
    return len(text.split()) if ideographs < 3 else max(len(text.split()), ideographs / 2)
