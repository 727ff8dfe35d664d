"""Reading delimited text into batches of string columns; bad rows are set aside with a reason.

Blocks are cut at ends of records, parsed by ``pyarrow.csv``, and only a block in which a quote runs away
goes through the slow exact reader of ``salvage``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv

from modelworks.core.errors import DataError, LimitError
from modelworks.data.dialect import WHITESPACE, Dialect, mark_of, sniff
from modelworks.data.encodings import BAD_BYTES, Transcoder, find_encoding
from modelworks.data.options import ReadOptions
from modelworks.data.raw import RawSink
from modelworks.data.salvage import salvage, well_quoted
from modelworks.data.streams import CappedReader

HEAD_BYTES = 1 << 18
BLOCK_BYTES = 1 << 22


@dataclass
class DelimitedReader:
    """One reading of one delimited text.

    Attributes:
        reader: Decompressed bytes.
        name: For messages.
        options: What the user has set.
        sink: Where batches and bad rows go.
        block_bytes: Size of a block.
    """

    reader: CappedReader
    name: str
    options: ReadOptions
    sink: RawSink
    block_bytes: int = BLOCK_BYTES
    _comment_lines: int = 0
    _literal_lines: int = 0
    _records: int = 0
    _header_seen: bool = False

    def read(self) -> dict[str, Any]:
        """Read everything into the sink.

        Returns:
            What was found: ``encoding``, ``dialect``, ``comment_lines``.

        Raises:
            DataError: The text is empty, binary or unreadable.
            LimitError: Too many columns, or a row or cell is too large.
        """
        head = self._fill(HEAD_BYTES)
        encoding = self.options.encoding or find_encoding(head, self.name)
        try:
            transcoder = Transcoder(encoding, settled=self.options.encoding is not None)
        except LookupError:
            raise DataError(
                f"There is no encoding '{encoding}'.",
                code="MW1125",
                hint="--encoding utf-8 (or latin-1, gb18030)",
            ) from None
        whole = len(head) < HEAD_BYTES
        text = transcoder.feed(head, whole)
        dialect = sniff(text.decode("utf-8"), self.options, whole=whole)
        self._check_width(dialect)
        names = column_names(dialect, self.options.names)
        self.sink.open(pa.schema([(str(index), pa.string()) for index in range(dialect.width)]), names)
        for block in self._record_blocks(dialect, self._texts(text, transcoder, whole)):
            self._parse(block, dialect, transcoder)
        return {
            "encoding": transcoder.encoding,
            "dialect": dialect.to_json(),
            "comment_lines": self._comment_lines,
            "lines_with_plain_quotes": self._literal_lines,
            "blocks_with_bad_bytes": transcoder.bad_blocks,
        }

    def _fill(self, size: int) -> bytes:
        parts, have = [], 0
        while have < size and (part := self.reader.read(size - have)):
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def _check_width(self, dialect: Dialect) -> None:
        if dialect.width > self.options.limits.columns:
            raise LimitError(
                f"'{self.name}' has {dialect.width:,} columns; at most {self.options.limits.columns:,} are read.",
                code="MW2011",
                where=self.name,
                hint="drop columns that are not needed, or raise the limit 'columns'",
            )

    def _texts(self, first: bytes, transcoder: Transcoder, whole: bool) -> Iterator[bytes]:
        yield first
        while not whole:
            block = self._fill(self.block_bytes)
            whole = len(block) < self.block_bytes
            yield transcoder.feed(block, whole)

    def _record_blocks(self, dialect: Dialect, texts: Iterator[bytes]) -> Iterator[bytes]:
        """Cut the text into blocks that end where a record ends."""
        rest = b""
        for text in texts:
            rest += text
            if len(rest) < self.block_bytes // 2:
                continue
            if b"\n" not in rest and b"\r" in rest:
                rest = rest.replace(b"\r", b"\n")
            cut = record_end(rest, dialect.quote.encode())
            if cut == 0 and len(rest) > 2 * self.block_bytes:
                cut = rest.rfind(b"\n") + 1
            if cut == 0 and len(rest) > 8 * self.block_bytes:
                raise LimitError(
                    f"'{self.name}' has a row of more than {len(rest):,} bytes near record {self._records:,}.",
                    code="MW2012",
                    where=self.name,
                    hint="check the quotes and line ends of the file",
                )
            if cut:
                yield self._clean(rest[:cut], dialect)
                rest = rest[cut:]
        if rest:
            yield self._clean(rest.replace(b"\r", b"\n") if b"\n" not in rest else rest, dialect)

    def _clean(self, block: bytes, dialect: Dialect) -> bytes:
        if dialect.comment:
            pattern = b"(?m)^" + re.escape(dialect.comment.encode()) + b"[^\n]*(\n|\\Z)"
            block, count = re.subn(pattern, b"", block)
            self._comment_lines += count
        if dialect.delimiter == WHITESPACE:
            quoted = dialect.quote.encode() in block if dialect.quote else False
            fields = re.compile(rb'"[^"]*"|\S+').findall if quoted else bytes.split
            block = b"\n".join([b"\t".join(fields(line)) for line in block.split(b"\n")])
        return block

    def _parse(self, block: bytes, dialect: Dialect, transcoder: Transcoder) -> None:
        if not block.strip():
            return
        bad: list[tuple[int, int, str]] = []
        table = _parse_block(block, dialect, self.options, bad)
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        if dialect.quote and table.num_rows + len(bad) < lines and not well_quoted(block, dialect):
            table, bad, literal = salvage(block, dialect, self.options)
            self._literal_lines += literal
        self._set_aside(table, bad, dialect, checked=not transcoder.bad_blocks)

    def _set_aside(
        self, table: pa.Table, bad: list[tuple[int, int, str]], dialect: Dialect, *, checked: bool
    ) -> None:
        first = self._records
        self._records += table.num_rows + len(bad)
        for number, fields, text in bad:
            if not text.strip():
                continue
            if dialect.short_header and not self._header_seen and fields == dialect.width - 1:
                self._header_seen = True
                continue
            reason = (
                f"{fields} fields instead of {dialect.width}" if fields >= 0 else "a quote is never closed"
            )
            self.sink.bad_row(first + number, reason, text)
        if dialect.header and not self._header_seen and table.num_rows:
            self._header_seen = True
            table = table.slice(1)
        for batch in table.to_batches():
            self.sink.write(batch if checked else _without_bad_bytes(batch, self.sink, first))


def column_names(dialect: Dialect, given: tuple[str, ...] | None) -> list[str]:
    """Return the names given by the user, found in the file, or invented (``c0``, ``c1``, ...).

    Raises:
        DataError: The user gave a wrong number of names.
    """
    if given is not None:
        if len(given) != dialect.width:
            raise DataError(
                f"{len(given)} names were given for {dialect.width} columns.",
                code="MW1126",
                hint="give one per column",
            )
        return list(given)
    return list(dialect.names) or [f"c{index}" for index in range(dialect.width)]


def record_end(block: bytes, quote: bytes) -> int:
    """Return where the last whole record of a block ends, or 0.

    A newline ends a record if an even number of quotes stands before it (RFC 4180).
    """
    end = block.rfind(b"\n") + 1
    if not quote or not end:
        return end
    count = block.count(quote, 0, end)
    while end and count % 2:
        before = block.rfind(b"\n", 0, end - 1) + 1
        count -= block.count(quote, before, end)
        end = before
    return end


def _parse_block(
    block: bytes, dialect: Dialect, options: ReadOptions, bad: list[tuple[int, int, str]]
) -> pa.Table:
    def set_aside(row: Any) -> str:
        bad.append((row.number or 0, row.actual_columns, row.text))
        return "skip"

    names = [str(index) for index in range(dialect.width)]
    return pyarrow.csv.read_csv(
        pa.py_buffer(block),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, column_names=names, block_size=max(len(block), 1 << 16) + 1
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=mark_of(dialect.delimiter),
            quote_char=dialect.quote or False,
            escape_char=dialect.escape or False,
            double_quote=bool(dialect.quote) and not dialect.escape,
            newlines_in_values=bool(dialect.quote),
            invalid_row_handler=set_aside,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(names, pa.string()),
            null_values=list(options.missing),
            strings_can_be_null=True,
        ),
    )


def _without_bad_bytes(batch: pa.RecordBatch, sink: RawSink, first: int) -> pa.RecordBatch:
    import pyarrow.compute as pc

    bad = None
    for column in batch.columns:
        marked = pc.fill_null(pc.match_substring(column, BAD_BYTES), False)
        bad = marked if bad is None else pc.or_(bad, marked)
    for index in pc.indices_nonzero(bad).to_pylist():
        cells = [column[index].as_py() or "" for column in batch.columns]
        sink.bad_row(
            first + index + 1, "bytes that are not text", ",".join(cells).replace(BAD_BYTES, "\ufffd")
        )
    return batch.filter(pc.invert(bad))
