"""From cells of text to typed columns: the type most cells have, cells that do not fit counted as missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.data.moments import MomentPattern, find_pattern, read_moments
from modelworks.data.options import ReadOptions

SAMPLE = 1024
MISFIT_SHARE = 0.01
NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_NUMBER = re.compile(NUMBER)
_INTEGER = re.compile(r"^[-+]?\d+$")
_CODE = re.compile(r"^[-+]?0\d+$|^0[xX]")
_NOT_FINITE = frozenset({"inf", "-inf", "+inf", "infinity", "-infinity", "+infinity", "nan"})
_ADORNED = re.compile(r"^[-+(]?\s*[$€£¥]?\s*[-+]?[\d.,' \u00a0]*\d\s*[%$€£¥]?\)?$")


@dataclass
class Reading:
    """How a column of text is read.

    Attributes:
        type: ``integer``, ``number``, ``datetime``, ``truth`` or ``text``.
        decimal, thousands: Marks, for numbers.
        adorned: Whether currency or per-cent signs are taken off.
        pattern: For date-times.
        tokens: Words found among numbers that mean a missing value here.
        misfits: Cells kept as missing because they do not fit.
        examples: Some of those cells.
        note: What a person should know.
    """

    type: str
    decimal: str = "."
    thousands: str = ""
    adorned: bool = False
    pattern: MomentPattern | None = None
    tokens: tuple[str, ...] = ()
    misfits: int = 0
    not_finite: int = 0
    examples: list[str] = field(default_factory=list)
    note: str = ""


def read_cells(
    chunks: Sequence[pa.Array], options: ReadOptions, decimal: str = "."
) -> tuple[list[pa.Array], Reading]:
    """Type a column of text.

    Args:
        chunks: Cells in batches; null is missing.
        options: Missing tokens, day-first and decimal overrides.
        decimal: Decimal mark of the file.

    Returns:
        Typed batches (int64, float64, timestamp[us], bool, dictionary of string or string) and the reading.
    """
    marked = (options.decimal or decimal) != "." or bool(options.thousands)
    plain = None if marked else _read_plain(chunks, _sample(chunks))
    if plain is not None:
        return plain
    chunks = trimmed(chunks, options)
    sample = _sample(chunks)
    plain = None if marked else _read_plain(chunks, sample)
    if plain is not None:
        return plain
    reading = _decide(sample, options, decimal)
    present = sum(len(chunk) - chunk.null_count for chunk in chunks)
    while True:
        reading.misfits = reading.not_finite = 0
        reading.examples.clear()
        typed: list[pa.Array] = []
        for chunk in chunks:
            typed.append(_apply(_without_tokens(chunk, reading), reading))
            if reading.misfits > MISFIT_SHARE * present:
                break
        else:
            return typed, reading
        reading = Reading("number" if reading.type == "integer" else "text", note=reading.note)


def _read_plain(chunks: Sequence[pa.Array], sample: list[str]) -> tuple[list[pa.Array], Reading] | None:
    """Read a column whose every cell is a plain number; ``None`` if there is another kind of cell."""
    if not sample or any(_NUMBER.match(cell) is None for cell in sample[:8]):
        return None
    numbers = _plain_number(sample, sample)
    if numbers.type == "text":
        return None
    for kind, name in ((pa.int64(), "integer"), (pa.float64(), "number")):
        if name == "integer" and numbers.type != "integer":
            continue
        try:
            typed = [pc.cast(chunk, kind) for chunk in chunks]
        except pa.ArrowInvalid:
            continue
        reading = Reading(name)
        return ([_finite(values, reading) for values in typed] if name == "number" else typed), reading
    return None


def _finite(values: pa.Array, reading: Reading) -> pa.Array:
    finite = pc.is_finite(values)
    if pc.all(finite).as_py() is not False:
        return values
    reading.not_finite += pc.sum(pc.invert(finite)).as_py() or 0
    return pc.if_else(finite, values, None)


def _without_tokens(chunk: pa.Array, reading: Reading) -> pa.Array:
    if not reading.tokens:
        return chunk
    return pc.if_else(pc.is_in(chunk, value_set=pa.array(reading.tokens)), None, chunk)


def _sample(chunks: Sequence[pa.Array]) -> list[str]:
    """Return up to about ``SAMPLE`` present cells, evenly spread."""
    total = sum(len(chunk) for chunk in chunks)
    step = max(1, total // SAMPLE)
    cells: list[str] = []
    for chunk in chunks:
        part = chunk if step == 1 else chunk.take(pa.array(np.arange(0, len(chunk), step)))
        cells.extend(part.drop_null().to_pylist())
    return cells


def trimmed(chunks: Sequence[pa.Array], options: ReadOptions) -> list[pa.Array]:
    """Take blanks off both ends of every cell; what then is a missing token becomes missing."""
    tokens = pa.array(list(dict.fromkeys(("", *options.missing))), pa.string())
    cleaned = []
    for chunk in chunks:
        cells = pc.utf8_trim_whitespace(chunk)
        gone = pc.is_in(cells, value_set=tokens.cast(cells.type))
        cleaned.append(pc.if_else(gone, None, cells) if pc.any(gone).as_py() else cells)
    return cleaned


def _decide(sample: list[str], options: ReadOptions, decimal: str) -> Reading:
    if not sample:
        return Reading("text")
    allowed = MISFIT_SHARE * len(sample) * (2 if len(sample) > SAMPLE // 2 else 1)
    cells = list(dict.fromkeys(sample))
    if len(cells) <= 2 and all(cell.lower() in {"true", "false"} for cell in cells):
        return Reading("truth")
    number = _decide_number(sample, cells, options, decimal, allowed)
    if number is None and (tokens := _words_among_numbers(sample)):
        rest = [cell for cell in sample if cell not in tokens]
        number = _decide_number(rest, list(dict.fromkeys(rest)), options, decimal, 0)
        if number is not None:
            number.tokens = tokens
            number.note = " and ".join(f"'{token}'" for token in tokens) + " among numbers is read as missing"
    if number is not None:
        return number
    pattern = find_pattern(cells[:1000], options.day_first, allowed * len(cells) / len(sample))
    if pattern is not None:
        return Reading("datetime", pattern=pattern, note=pattern.note)
    return Reading("text")


def _words_among_numbers(sample: list[str]) -> tuple[str, ...]:
    """Return one or two words without digits that stand, in less than half of the cells, among many numbers."""
    words = Counter(cell for cell in sample if not any(mark.isdigit() for mark in cell))
    numbers = {cell for cell in sample if _NUMBER.match(cell)}
    if len(words) > 2 or len(numbers) < 10 or sum(words.values()) > 0.5 * len(sample):
        return ()
    return tuple(words)


def _decide_number(
    sample: list[str], cells: list[str], options: ReadOptions, decimal: str, allowed: float
) -> Reading | None:
    decimal = options.decimal or decimal
    first = [cell for cell in cells[:64] if _ADORNED.match(cell) or _NUMBER.match(cell)]
    if len(first) < 0.5 * min(64, len(cells)):
        return None
    if decimal == "." and not options.thousands:
        plain = sum(_NUMBER.match(cell) is None and cell.lower() not in _NOT_FINITE for cell in sample)
        if plain <= allowed:
            return _plain_number(sample, cells)
    return _marked_number(sample, cells, options, decimal, allowed)


def _plain_number(sample: list[str], cells: list[str]) -> Reading:
    if any(_CODE.match(cell) for cell in cells):
        return Reading("text", note="digits with leading zeros are codes, not numbers")
    if all(_INTEGER.match(cell) for cell in cells if _NUMBER.match(cell)):
        if any(len(cell.lstrip("+-")) > 15 for cell in cells):
            return Reading("text", note="whole numbers of more than 15 digits are codes, not numbers")
        return Reading("integer")
    return Reading("number")


def _marked_number(
    sample: list[str], cells: list[str], options: ReadOptions, decimal: str, allowed: float
) -> Reading | None:
    """Find numbers with a decimal comma, thousands marks, currency or per-cent signs."""
    bare = [_undress(cell) for cell in cells]
    adorned = any(bare_cell != cell for bare_cell, cell in zip(bare, cells, strict=True))
    for mark, group in _mark_pairs(bare, options, decimal):
        pattern = re.compile(
            rf"^[-+]?(\d{{1,3}}({re.escape(group)}\d{{3}})+|\d+)({re.escape(mark)}\d*)?([eE][-+]?\d+)?$"
            if group
            else rf"^[-+]?(\d+({re.escape(mark)}\d*)?|{re.escape(mark)}\d+)([eE][-+]?\d+)?$"
        )
        fit = {cell: pattern.match(text) is not None for cell, text in zip(cells, bare, strict=True)}
        if sum(not fit[cell] for cell in sample) <= allowed:
            dressed = [cell for cell in cells if cell[:1] in "$€£¥(" or cell[-1:] in "%$€£¥)"]
            note = f"numbers written like '{(dressed or cells)[0]}'"
            return Reading("number", decimal=mark, thousands=group, adorned=adorned, note=note)
    return None


def _mark_pairs(bare: list[str], options: ReadOptions, decimal: str) -> list[tuple[str, str]]:
    if options.thousands is not None:
        return [(decimal, options.thousands)]
    if decimal == ",":
        return [(",", ""), (",", "."), (",", " "), (",", "'"), (",", "\u00a0")]
    pairs = [(".", ""), (".", ","), (".", " "), (".", "'"), (".", "\u00a0")]
    if options.decimal is None and any(re.match(r"^[-+]?\d+,(\d{1,2}|\d{4,})$", cell) for cell in bare):
        pairs.insert(1, (",", ""))
    return pairs


def _undress(cell: str) -> str:
    if cell[:1] == "(" and cell[-1:] == ")":
        cell = "-" + cell[1:-1]
    return re.sub(r"^([-+]?)\s*[$€£¥]\s*|\s*[%$€£¥]$", r"\1", cell)


def _apply(cells: pa.Array, reading: Reading) -> pa.Array:
    if reading.type == "integer":
        return _as_integers(cells, reading)
    if reading.type == "number":
        return _as_numbers(cells, reading)
    if reading.type == "datetime" and reading.pattern is not None:
        values = read_moments(cells, reading.pattern)
        _count_misfits(cells, values, reading)
        return values
    if reading.type == "truth":
        lower = pc.utf8_lower(cells)
        values = pc.if_else(
            pc.is_in(lower, value_set=pa.array(["true", "false"])), pc.equal(lower, "true"), None
        )
        _count_misfits(cells, values, reading)
        return values
    return as_texts(cells)


def as_texts(cells: pa.Array) -> pa.Array:
    """Return text as a dictionary if values repeat, else as it is."""
    count = len(cells)
    if count > 2000:
        part = cells.take(pa.array(np.arange(0, count, max(1, count // 1000))))
        if pc.count_distinct(part).as_py() > 0.9 * len(part):
            return cells
    return cells.dictionary_encode()


def _as_integers(cells: pa.Array, reading: Reading) -> pa.Array:
    try:
        return pc.cast(cells, pa.int64())
    except pa.ArrowInvalid:
        fit = pc.match_substring_regex(cells, r"^[-+]?\d{1,18}$")
    plain = pc.replace_substring_regex(pc.if_else(fit, cells, None), r"^\+", "")
    values = pc.cast(plain, pa.int64())
    _count_misfits(cells, values, reading)
    return values


def _as_numbers(cells: pa.Array, reading: Reading) -> pa.Array:
    plain = _unmarked(cells, reading)
    try:
        return _finite(pc.cast(plain, pa.float64()), reading)
    except pa.ArrowInvalid:
        fit = pc.match_substring_regex(plain, NUMBER)
    values = pc.cast(pc.replace_substring_regex(pc.if_else(fit, plain, None), r"^\+", ""), pa.float64())
    named = pc.is_in(pc.utf8_lower(plain), value_set=pa.array(sorted(_NOT_FINITE)))
    reading.not_finite += pc.sum(named).as_py() or 0
    _count_misfits(cells, pc.if_else(pc.or_kleene(fit, named), True, None), reading)
    return values


def _unmarked(cells: pa.Array, reading: Reading) -> pa.Array:
    if reading.adorned:
        cells = pc.replace_substring_regex(cells, r"^\((.*)\)$", r"-\1")
        cells = pc.replace_substring_regex(cells, r"^([-+]?)\s*[$€£¥]\s*|\s*[%$€£¥]$", r"\1")
    if reading.thousands:
        cells = pc.replace_substring(cells, reading.thousands, "")
    if reading.decimal != ".":
        cells = pc.replace_substring(cells, reading.decimal, ".")
    return cells


def _count_misfits(cells: pa.Array, values: pa.Array, reading: Reading) -> None:
    lost = values.null_count - cells.null_count
    if lost <= 0:
        return
    reading.misfits += lost
    if len(reading.examples) < 5:
        misfit = pc.and_(pc.is_valid(cells), pc.is_null(values))
        found: list[Any] = cells.filter(misfit).slice(0, 5).to_pylist()
        reading.examples.extend(str(cell)[:60] for cell in found if str(cell)[:60] not in reading.examples)
