"""Reading JSON: one object a line, an array of objects, or one object of columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from modelworks.core.errors import DataError, LimitError
from modelworks.data.encodings import find_encoding
from modelworks.data.json_columns import JsonColumns
from modelworks.data.options import ReadOptions
from modelworks.data.raw import RawSink
from modelworks.data.streams import CappedReader

_SPACE = re.compile(r"[\s,]*")
_BLOCK = 1 << 20


def read_json(reader: CappedReader, name: str, options: ReadOptions, sink: RawSink) -> dict[str, Any]:
    """Read JSON rows into the sink; nested objects become columns ``a.b``, lists become JSON text.

    Raises:
        DataError: No row can be read.
        LimitError: Nesting, a cell or the table is too large.
    """
    columns = JsonColumns(options.limits, name)
    layout = ""
    alone: dict[str, Any] | None = None
    for kind, record, value in _values(reader, name, options):
        layout = layout or kind
        if alone is not None:
            columns.add_row(alone)
            alone = None
        if kind == "bad":
            sink.bad_row(record, "not JSON", str(value))
        elif isinstance(value, dict) and record == 1 and _is_columns(value):
            alone = value
        elif isinstance(value, dict):
            columns.add_row(value)
        elif isinstance(value, list):
            columns.add_row({f"c{index}": cell for index, cell in enumerate(value)})
        else:
            sink.bad_row(record, "not an object", json.dumps(value))
    if alone is not None:
        columns.fill(alone)
        layout = "object of columns"
    if not columns.rows and sink.bad_count:
        raise DataError(
            f"'{name}' holds no JSON object.", code="MW1127", where=name, hint="--read format=csv"
        )
    arrays = columns.arrays()
    table = pa.table(list(arrays.values()), names=[str(index) for index in range(len(arrays))])
    sink.open(table.schema, list(arrays))
    for batch in table.to_batches():
        sink.write(batch)
    return {"layout": layout}


def _values(reader: CappedReader, name: str, options: ReadOptions) -> Iterator[tuple[str, int, Any]]:
    """Yield ``(layout, record, value)`` one JSON value at a time."""
    import codecs

    head = reader.read(_BLOCK)
    encoding = options.encoding or find_encoding(head, name)
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    buffer = decoder.decode(head, not head).lstrip("\ufeff \t\r\n")
    is_array = buffer.startswith("[") and not _is_line_of_list(buffer)
    if not is_array:
        yield from _lines(reader, decoder, buffer, options.limits.nesting, name)
        return
    text = [buffer]
    while block := reader.read(_BLOCK):
        text.append(decoder.decode(block))
    whole = "".join(text)
    try:
        check_nesting(whole, options.limits.nesting, name)
        values = json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{name}' is not valid JSON: {error}.", code="MW1127", where=name) from None
    for record, value in enumerate(values, start=1):
        yield "array", record, value


def _is_line_of_list(buffer: str) -> bool:
    first, newline, rest = buffer.partition("\n")
    if not newline or not rest.lstrip().startswith("["):
        return False
    try:
        return isinstance(json.loads(first), list)
    except (ValueError, RecursionError):
        return False


def _lines(
    reader: CappedReader, decoder: Any, buffer: str, nesting: int, name: str
) -> Iterator[tuple[str, int, Any]]:
    record = 0
    done = False
    parser = json.JSONDecoder()
    while not done or buffer:
        start = 0
        while (end := buffer.find("\n", start)) >= 0 or (done and start < len(buffer)):
            end = len(buffer) if end < 0 else end
            line = buffer[start:end].strip()
            if line:
                record += 1
                value, stop = _one_value(parser, line, nesting, name)
                if stop < 0 and record == 1:
                    value, stop = _spread_object(reader, decoder, buffer[start:], nesting, name)
                    if stop >= 0:
                        yield "object", record, value
                        return
                yield ("bad", record, line) if stop < 0 else ("lines", record, value)
            start = end + 1
        buffer = buffer[start:]
        if not done:
            block = reader.read(_BLOCK)
            done = not block
            buffer += decoder.decode(block, done)


def _one_value(parser: json.JSONDecoder, line: str, nesting: int, name: str) -> tuple[Any, int]:
    if line.count("{") + line.count("[") > nesting:
        check_nesting(line, nesting, name)
    try:
        value, stop = parser.raw_decode(line)
    except (ValueError, RecursionError):
        return None, -1
    return (value, stop) if _SPACE.fullmatch(line[stop:]) else (None, -1)


def _spread_object(
    reader: CappedReader, decoder: Any, buffer: str, nesting: int, name: str
) -> tuple[Any, int]:
    """Read one object written over many lines (an object of columns)."""
    if buffer.split("\n", 1)[0].strip() != "{":
        return None, -1
    parts = [buffer]
    while block := reader.read(_BLOCK):
        parts.append(decoder.decode(block))
    whole = "".join(parts)
    check_nesting(whole, nesting, name)
    try:
        return json.loads(whole), 0
    except ValueError as error:
        raise DataError(f"'{name}' is not valid JSON: {error}.", code="MW1127", where=name) from None


def check_nesting(text: str, limit: int, name: str) -> None:
    """Refuse JSON nested deeper than ``limit`` before it is parsed.

    Raises:
        LimitError: It is too deep.
    """
    depth = 0
    inside = False
    for token in re.finditer(r'\\.|["\[\]{}]', text):
        mark = token.group()
        if mark == '"':
            inside = not inside
        elif inside or mark[0] == "\\":
            continue
        elif mark in "[{":
            depth += 1
            if depth > limit:
                raise LimitError(
                    f"'{name}' nests JSON more than {limit} deep.",
                    code="MW2015",
                    where=name,
                    hint="flatten it first",
                )
        else:
            depth -= 1


def _is_columns(value: dict[str, Any]) -> bool:
    cells = list(value.values())
    if not cells or not all(isinstance(cell, (list, dict)) for cell in cells):
        return False
    return len({len(cell) for cell in cells}) == 1 and len(cells[0]) > 1
