"""What a user may set about reading a table, and the limits nobody passes by accident."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

MISSING_TOKENS = (
    "", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "-nan", "null", "NULL", "Null", "None", "NONE",
    "none", "?", "-", "--", ".", "<NA>", "NaT",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TableLimits:
    """Sizes above which a table is refused with a clear error.

    Attributes:
        file_bytes: Bytes of the source as stored.
        decompressed_bytes: Bytes after decompression.
        ratio: Decompressed bytes / stored bytes, checked above 64 MB.
        rows, columns: Size of the table.
        cell_bytes: UTF-8 bytes of one cell.
        nesting: Depth of lists and objects in JSON.
        quarantine_rows: Bad rows kept with their text; further ones are only counted.
        memory_mb: Address space of the reading process.
        cpu_s, wall_s: Time of the reading process.
    """

    file_bytes: int = 8 * 10**9
    decompressed_bytes: int = 32 * 10**9
    ratio: int = 1000
    rows: int = 200_000_000
    columns: int = 20_000
    cell_bytes: int = 1_000_000
    nesting: int = 32
    quarantine_rows: int = 10_000
    memory_mb: int = 4096
    cpu_s: int = 1800
    wall_s: int = 3600


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Overrides of what ``ingest`` would find out by itself; ``None`` means find out.

    Attributes:
        format: ``csv``, ``parquet``, ``json``, ``excel`` or ``arrow``.
        delimiter: One character, or ``whitespace``.
        encoding: Python name of the text encoding.
        decimal: Decimal mark.
        thousands: Mark between groups of three digits.
        quote: Quote character; empty for none.
        comment: Lines that begin with this are skipped.
        header: Whether the first line names the columns.
        names: Column names, in order.
        columns: Read only these columns.
        sheet: Excel sheet name.
        query: SQL query; the source is then a connection URL.
        day_first: How to read 03/04/2024.
        missing: Texts that mean a missing value.
        kinds: Column name -> kind, set by the user.
        roots: Folders local files must lie in; empty for no bound.
        storage: Options for the fsspec file system of a URL (endpoint, region; never kept).
        limits: Sizes that are refused.
    """

    format: Literal["csv", "parquet", "json", "excel", "arrow"] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    quote: str | None = None
    comment: str | None = None
    header: bool | None = None
    names: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    sheet: str | None = None
    query: str | None = None
    day_first: bool | None = None
    missing: tuple[str, ...] = MISSING_TOKENS
    kinds: dict[str, str] = field(default_factory=dict)
    roots: tuple[str, ...] = ()
    storage: dict[str, Any] = field(default_factory=dict)
    limits: TableLimits = field(default_factory=TableLimits)

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain data, without ``storage`` (it may hold credentials)."""
        data = asdict(self)
        del data["storage"]
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> ReadOptions:
        """Rebuild options from ``to_json``."""
        values = dict(data)
        for name in ("names", "columns", "missing", "roots"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        values["limits"] = TableLimits(**values.get("limits", {}))
        return ReadOptions(**values)
