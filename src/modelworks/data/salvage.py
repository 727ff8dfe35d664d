"""The slow exact reader for blocks in which a quote was opened and never closed."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

import pyarrow as pa

from modelworks.data.dialect import Dialect, mark_of, strict_reader
from modelworks.data.options import ReadOptions

JOINED_LINES = 200


def well_quoted(block: bytes, dialect: Dialect) -> bool:
    """Say whether every quote of a block opens and closes a field, as RFC 4180 has it."""
    try:
        deque(_strict(block.decode("utf-8"), dialect), maxlen=0)
    except csv.Error:
        return False
    return True


def _strict(text: str, dialect: Dialect) -> Iterator[list[str]]:
    return strict_reader(text, dialect.delimiter, dialect.quote, dialect.escape)


def _holds_rows(text: str, dialect: Dialect) -> bool:
    inner = [line for line in text.split("\n")[1:] if line.strip()]
    whole = sum(_fields(line, dialect) is not None for line in inner)
    return whole > 0 and whole >= 0.5 * (len(inner) - 1)


def _fields(record: str, dialect: Dialect) -> list[str] | None:
    """Return the fields of a record if its quotes close and their number is right."""
    try:
        rows = list(_strict(record, dialect))
    except csv.Error:
        return None
    if len(rows) != 1 or len(rows[0]) != dialect.width:
        return None
    return rows[0]


def salvage(
    block: bytes, dialect: Dialect, options: ReadOptions
) -> tuple[pa.Table, list[tuple[int, int, str]], int]:
    """Read a block line by line, so that a quote that never closes costs no other line.

    A line that has the right number of fields if its quotes are plain characters is kept that way.

    Returns:
        The table of string columns, bad rows ``(record number, -1, text)`` and the lines read without quotes.
    """
    lines = block.decode("utf-8").replace("\r\n", "\n").split("\n")
    good: list[list[str | None]] = []
    bad: list[tuple[int, int, str]] = []
    missing = set(options.missing)
    position = literal = 0
    while position < len(lines):
        line = lines[position]
        taken, row = (1, None) if not line.strip() else _one_record(lines, position, dialect)
        if row is not None:
            good.append([None if cell in missing else cell for cell in row])
        elif line.count(mark_of(dialect.delimiter)) == dialect.width - 1:
            good.append(
                [None if cell in missing else cell for cell in line.split(mark_of(dialect.delimiter))]
            )
            literal += 1
        elif line.strip():
            bad.append((len(good) + len(bad) + 1, -1, line))
        position += taken
    columns = [pa.array([row[index] for row in good], pa.string()) for index in range(dialect.width)]
    return pa.table(columns, names=[str(index) for index in range(dialect.width)]), bad, literal


def _one_record(lines: list[str], start: int, dialect: Dialect) -> tuple[int, list[str] | None]:
    row = _fields(lines[start], dialect)
    if row is not None:
        return 1, row
    record = lines[start]
    for count in range(1, min(JOINED_LINES, len(lines) - start)):
        following = lines[start + count]
        record += "\n" + following
        if dialect.quote in following:
            row = _fields(record, dialect)
            if row is not None and not _holds_rows(record, dialect):
                return count + 1, row
    return 1, None
