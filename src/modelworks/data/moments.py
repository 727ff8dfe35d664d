"""Reading date-times in the many ways people write them, column by column."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = (
    r"(?:[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?: ?(?P<half>[AaPp]\.?[Mm]\.?))?(?: ?(?P<zone>Z|UTC|GMT|[-+]\d{2}:?\d{2}|[-+]\d{2}))?)?"
)
_NAMED = r"(?P<name>[A-Za-z]{3,9})\.?"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\.?,? )?"
_SHAPES = {
    "year-month-day": r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})",
    "first/second/year": r"(?P<first>\d{1,2})[-/.](?P<second_part>\d{1,2})[-/.](?P<year>\d{4}|\d{2})",
    "day month-name year": rf"{_WEEKDAY}(?P<day>\d{{1,2}})[- /.]{_NAMED}[- /.,]+(?P<year>\d{{4}}|\d{{2}})",
    "month-name day year": rf"{_WEEKDAY}{_NAMED} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}})",
    "year-month": r"(?P<year>\d{4})[-/](?P<month>\d{1,2})",
    "month-name year": rf"{_NAMED}[- ](?P<year>\d{{4}})",
}
_COMPACT = r"^(?P<year>(?:19|20)\d{2})(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])$"
_DAYS_IN_400_YEARS = 146_097


@dataclass(frozen=True)
class MomentPattern:
    """How the date-times of a column are written.

    Attributes:
        shape: One of the known shapes.
        regex: Its regular expression (RE2 syntax).
        day_first: For numeric dates: whether the day comes before the month.
        note: What a person should know.
    """

    shape: str
    regex: str
    day_first: bool = False
    note: str = ""


def find_pattern(
    cells: list[str], day_first: bool | None = None, allowed: float = 0.0
) -> MomentPattern | None:
    """Return the pattern that all but ``allowed`` of some distinct cells follow, or ``None``."""
    if not cells or (not any(mark.isdigit() for mark in cells[0]) and len(cells) == 1):
        return None
    for shape, regex in _SHAPES.items():
        whole = rf"^{regex}{_TIME}$"
        pattern = re.compile(whole)
        if sum(pattern.match(cell) is None for cell in cells[:20]) > max(allowed, 0.2 * len(cells[:20])):
            continue
        matches = [match for cell in cells if (match := pattern.match(cell))]
        if len(cells) - len(matches) > allowed:
            continue
        if "name" in pattern.groupindex and not all(
            match["name"][:3].lower() in _MONTHS for match in matches
        ):
            continue
        if shape == "first/second/year":
            return _day_or_month(whole, matches, day_first)
        return MomentPattern(shape, whole, note=f"date-times written {shape}")
    return None


def compact_dates(values: npt.NDArray[np.int64]) -> bool:
    """Say whether whole numbers are dates written 20240131."""
    if len(values) == 0 or values.min() < 19_000_101 or values.max() > 21_001_231:
        return False
    months, days = values // 100 % 100, values % 100
    return bool(((months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all())


def _day_or_month(regex: str, matches: list[re.Match[str]], day_first: bool | None) -> MomentPattern | None:
    first = max(int(match["first"]) for match in matches)
    second = max(int(match["second_part"]) for match in matches)
    if first > 31 or second > 31 or (first > 12 and second > 12):
        return None
    if day_first is None and first <= 12 and second <= 12:
        dotted = "." in matches[0].group()[:6]
        words = "day before month" if dotted else "month before day"
        return MomentPattern(
            "first/second/year", regex, dotted, f"could be read in two ways; taken as {words} (see day_first)"
        )
    chosen = first > 12 if day_first is None else day_first
    return MomentPattern("first/second/year", regex, chosen, "day/month/year" if chosen else "month/day/year")


def read_moments(cells: pa.Array, pattern: MomentPattern) -> pa.Array:
    """Return timestamp[us] in UTC (a moment without a zone is taken as UTC); what cannot be read is null."""
    if pattern.shape == "year-month-day":
        try:
            return pc.cast(cells, pa.timestamp("us"))
        except pa.ArrowInvalid:
            pass
    encoded = cells.dictionary_encode() if not pa.types.is_dictionary(cells.type) else cells
    values = _read_distinct(encoded.dictionary, pattern)
    return values.take(encoded.indices)


def _read_distinct(cells: pa.Array, pattern: MomentPattern) -> pa.Array:
    parts = pc.extract_regex(cells, pattern.regex)
    names = {field.name for field in parts.type}

    def part(name: str, default: int = 0) -> npt.NDArray[np.int64]:
        if name not in names:
            return np.full(len(cells), default, dtype=np.int64)
        texts = pc.struct_field(parts, name)
        texts = pc.if_else(pc.equal(texts, ""), str(default), texts)
        return np.asarray(pc.cast(texts, pa.int64()).fill_null(default).to_numpy(zero_copy_only=False))

    year = part("year", 1970)
    year = np.where(year < 100, np.where(year < 70, 2000 + year, 1900 + year), year)
    month, day = part("month", 1), part("day", 1)
    if pattern.shape == "first/second/year":
        first, second = part("first", 1), part("second_part", 1)
        day, month = (first, second) if pattern.day_first else (second, first)
    if "name" in names:
        month = _month_numbers(pc.struct_field(parts, "name"))
    hour = part("hour")
    if "half" in names:
        half = np.array([(text or "")[:1].lower() for text in pc.struct_field(parts, "half").to_pylist()])
        hour = np.where(
            (half == "p") & (hour < 12), hour + 12, np.where((half == "a") & (hour == 12), 0, hour)
        )
    minute, second = part("minute"), part("second")
    valid = np.asarray(parts.is_valid()) & (month >= 1) & (month <= 12) & (day >= 1) & (hour <= 24)
    valid &= (minute < 60) & (second <= 60)
    safe_month = np.where(valid, month, 1)
    valid &= day <= _month_lengths(year, safe_month)
    days = _days_since_epoch(year, safe_month, np.where(valid, day, 1))
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    micros = seconds * 1_000_000 + _microseconds(parts, names) - _offsets(parts, names)
    return pc.if_else(pa.array(valid), pa.array(micros).cast(pa.timestamp("us")), None)


def _microseconds(parts: pa.StructArray, names: set[str]) -> npt.NDArray[np.int64]:
    if "fraction" not in names:
        return np.zeros(len(parts), dtype=np.int64)
    texts = pc.struct_field(parts, "fraction").to_pylist()
    return np.array([int((text or "").ljust(6, "0")[:6]) for text in texts], dtype=np.int64)


def _offsets(parts: pa.StructArray, names: set[str]) -> npt.NDArray[np.int64]:
    if "zone" not in names:
        return np.zeros(len(parts), dtype=np.int64)
    minutes = []
    for text in pc.struct_field(parts, "zone").to_pylist():
        digits = (text or "")[1:].replace(":", "") if (text or "")[:1] in {"+", "-"} else ""
        size = int(digits[:2] or 0) * 60 + int(digits[2:] or 0)
        minutes.append(-size if (text or "").startswith("-") else size)
    return np.array(minutes, dtype=np.int64) * 60_000_000


def _month_numbers(names: pa.Array) -> npt.NDArray[np.int64]:
    numbers = {month: index for index, month in enumerate(_MONTHS, start=1)}
    return np.array([numbers.get((name or "")[:3].lower(), 0) for name in names.to_pylist()], dtype=np.int64)


def _month_lengths(year: npt.NDArray[np.int64], month: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    lengths = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[month - 1]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return np.asarray(np.where((month == 2) & leap, 29, lengths), dtype=np.int64)


def _days_since_epoch(
    year: npt.NDArray[np.int64], month: npt.NDArray[np.int64], day: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return days from 1970-01-01 in the Gregorian calendar (Hinnant, "days_from_civil")."""
    year = year - (month <= 2)
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return np.asarray(era * _DAYS_IN_400_YEARS + day_of_era - 719_468, dtype=np.int64)
