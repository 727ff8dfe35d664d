"""Finding out how a delimited text is written: delimiter, quotes, comments, preamble, decimal mark.

Candidates are scored by how even the field counts are and how clean the cells look, after
van den Burg, Nazabal and Sutton, "Wrangling messy CSV files by detecting row and type patterns" (2019).
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from modelworks.data.header import find_header, number_like
from modelworks.data.options import ReadOptions

WHITESPACE = "whitespace"
SINGLE = "none"
_CANDIDATES = (",", ";", "\t", "|", WHITESPACE, ":", "~", "\x1f", "\x01")
_HEAD_LINES = 120
_COMMENT_MARKS = ("#", "%", "//")
_BLANKS = re.compile(r"[ \t]+")
_DATE_LIKE = re.compile(
    r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?.*)?$|^\d{1,2}:\d{2}"
)
_DECIMAL_COMMA = re.compile(r"^[-+]?(\d+|\d{1,3}(\.\d{3})+),(\d{1,2}|\d{4,})$|^[-+]?0,\d+$")
_DECIMAL_POINT = re.compile(r"^[-+]?(\d+|\d{1,3}(,\d{3})+)\.(\d{1,2}|\d{4,})$|^[-+]?0\.\d+$")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a delimited text is written.

    Attributes:
        delimiter: One character, ``whitespace`` for runs of blanks, or ``none`` for a single column.
        quote: Quote character, or "".
        escape: Escape character, or "".
        comment: Mark of comment lines, or "".
        preamble: Lines before the table that are not of it.
        header: Whether the first line names the columns.
        short_header: Whether that line has one field less than the rows.
        names: Column names as written; empty if there is no header.
        width: Fields in a row.
        decimal: Decimal mark.
        reason: Why there is or is not a header.
    """

    delimiter: str
    quote: str = '"'
    escape: str = ""
    comment: str = ""
    preamble: int = 0
    header: bool = False
    short_header: bool = False
    names: tuple[str, ...] = ()
    width: int = 1
    decimal: str = "."
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "names": list(self.names)}


def sniff(head: str, options: ReadOptions, *, whole: bool) -> Dialect:
    """Find the dialect of a text by its first part.

    Args:
        head: First part of the text, without byte-order mark.
        options: What the user has set.
        whole: Whether ``head`` is all of the text.
    """
    lines = head.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not whole and len(lines) > 1:
        lines.pop()
    lines = lines[: 4 * _HEAD_LINES]
    quote = options.quote if options.quote is not None else _find_quote(lines)
    comment = options.comment if options.comment is not None else _find_comment(lines)
    body = [line for line in lines if line.strip() and not (comment and line.startswith(comment))]
    body = body[: 2 * _HEAD_LINES]
    delimiter = options.delimiter or _find_delimiter(body, quote)
    escape = _find_escape(body, delimiter, quote)
    rows = read_rows(body, delimiter, quote, escape)
    width = _usual_width(rows)
    preamble = 0
    while preamble < min(20, len(rows) - 1) and len(rows[preamble]) not in {width, width - 1}:
        preamble += 1
    table = rows[preamble:]
    dialect = Dialect(
        delimiter=delimiter, quote=quote, escape=escape, comment=comment, preamble=preamble, width=width
    )
    dialect = replace(dialect, decimal=options.decimal or _find_decimal(table, delimiter))
    commented = _commented_header(lines, comment, delimiter, width) if comment else ()
    return _with_header(dialect, table, options, commented)


def _with_header(
    dialect: Dialect, table: list[list[str]], options: ReadOptions, commented: tuple[str, ...]
) -> Dialect:
    if options.header is None and commented:
        return replace(dialect, names=commented, reason="the comment line above the rows names the columns")
    header, reason = (
        (options.header, "set by the user")
        if options.header is not None
        else find_header(table, dialect.width, set(options.missing))
    )
    if not header or not table:
        return replace(dialect, header=bool(header and table), reason=reason)
    names = [cell.strip() for cell in table[0]]
    if len(names) == dialect.width - 1:
        trailing = all(not row[-1] for row in table[1:] if len(row) == dialect.width)
        names = [*names, ""] if trailing else ["row_name", *names]
    short = len(table[0]) == dialect.width - 1
    return replace(dialect, header=True, short_header=short, names=tuple(names), reason=reason)


def strict_reader(text: str, delimiter: str, quote: str, escape: str) -> Iterator[list[str]]:
    """Parse text with Python's parser, which here raises ``csv.Error`` where quotes are out of place."""
    csv.field_size_limit(2**31 - 1)
    return csv.reader(
        io.StringIO(text, newline=""),
        delimiter=mark_of(delimiter),
        quotechar=quote,
        escapechar=escape or None,
        doublequote=not escape,
        strict=True,
    )


def _find_escape(body: list[str], delimiter: str, quote: str) -> str:
    """Return a backslash if the text is well quoted with it and not without it."""
    text = "\n".join(body)
    if not quote or f"\\{quote}" not in text:
        return ""
    for escape in ("", "\\"):
        try:
            widths = {len(row) for row in strict_reader(text, delimiter, quote, escape)}
        except csv.Error:
            continue
        if len(widths) == 1:
            return escape
    return ""


def mark_of(delimiter: str) -> str:
    """Return the character between fields once blanks are collapsed; a single column has one that never occurs."""
    return {WHITESPACE: "\t", SINGLE: "\x1f"}.get(delimiter, delimiter)


def read_rows(lines: list[str], delimiter: str, quote: str, escape: str = "") -> list[list[str]]:
    """Parse lines with Python's exact parser; for heads and for the few lines that need care."""
    if delimiter == WHITESPACE:
        lines = [_BLANKS.sub("\t", line.strip(" \t")) for line in lines]
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(
        (line + "\n" for line in lines),
        delimiter=mark_of(delimiter),
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        escapechar=escape or None,
        doublequote=not escape,
        skipinitialspace=True,
    )
    return [row for row in reader if row]


def _find_quote(lines: list[str]) -> str:
    text = "\n".join(lines)
    doubled = len(re.findall(r'(?:^|[,;\t| ])"', text, re.MULTILINE))
    if doubled:
        return '"'
    single = len(re.findall(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|]|$)", text, re.MULTILINE))
    return "'" if single >= max(3, len(lines) // 2) else '"'


def _find_comment(lines: list[str]) -> str:
    for mark in _COMMENT_MARKS:
        marked = [line.startswith(mark) for line in lines]
        if marked and marked[0] and not all(marked):
            return mark
    return ""


def _commented_header(lines: list[str], comment: str, delimiter: str, width: int) -> tuple[str, ...]:
    last = ""
    for line in lines:
        if not line.startswith(comment):
            break
        last = line[len(comment) :].strip()
    names = read_rows([last], delimiter, '"')[0] if last else []
    if len(names) != width or len(set(names)) != width or any(number_like(name) for name in names):
        return ()
    return tuple(name.strip() for name in names) if width > 1 else ()


def _usual_width(rows: list[list[str]]) -> int:
    widths = Counter(len(row) for row in rows)
    return max(widths, key=lambda width: (widths[width], width)) if widths else 1


def _find_delimiter(body: list[str], quote: str) -> str:
    lines = body[-_HEAD_LINES:]
    text = "\n".join(lines)
    best, best_score = SINGLE, 0.0
    for candidate in _CANDIDATES:
        mark = " " if candidate == WHITESPACE else candidate
        if text.count(mark) < 0.5 * len(lines) and not (candidate == WHITESPACE and "\t" in text):
            continue
        rows = read_rows(lines, candidate, quote)
        score = _evenness(rows) * _cleanness(rows, candidate)
        if candidate in {WHITESPACE, ":"}:
            score *= 0.8
        if score > best_score + 1e-9:
            best, best_score = candidate, score
    return best if best_score > 0.1 else SINGLE


def _evenness(rows: list[list[str]]) -> float:
    width = _usual_width(rows)
    if width < 2:
        return 0.0
    share = sum(len(row) == width for row in rows) / len(rows)
    return share * share * width / (width + 0.5)


def _cleanness(rows: list[list[str]], delimiter: str) -> float:
    """Return the share of cells that look like one value: a number, a date, or text without other delimiters."""
    others = [mark for mark in (",", ";", "\t", "|") if mark != delimiter]
    clean, total = 0.0, 0
    for row in rows[:60]:
        for raw in row:
            cell = raw.strip()
            total += 1
            if (
                not cell
                or number_like(cell)
                or _DATE_LIKE.match(cell)
                or _DECIMAL_COMMA.match(cell)
                or not any(mark in cell for mark in others)
            ):
                clean += 1
            elif " " in cell and not re.search(r"\d[;,|\t]\d", cell):
                clean += 0.7
    return clean / max(1, total)


def _find_decimal(rows: list[list[str]], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    cells = [cell.strip() for row in rows[:60] for cell in row]
    commas = sum(_DECIMAL_COMMA.match(cell) is not None for cell in cells)
    points = sum(_DECIMAL_POINT.match(cell) is not None for cell in cells)
    return "," if commas > points else "."
