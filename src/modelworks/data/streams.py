"""Opening a file: what it is by its first bytes, and its decompressed bytes under caps.

Imports the standard library only at load, for it runs in the small process that parses untrusted bytes.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Protocol

from modelworks.core.errors import DataError, LimitError
from modelworks.data.options import TableLimits

RATIO_FREE_BYTES = 64 * 10**6


class ByteReader(Protocol):
    """Anything with ``read(size)``; an empty answer is the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes."""
        ...


def file_format(path: Path, name: str) -> tuple[str, str]:
    """Return ``(format, compression)`` of a file by its first bytes, helped by its name.

    Formats: ``csv``, ``json``, ``parquet``, ``arrow``, ``excel``. Compressions: "", ``gz``, ``bz2``,
    ``xz``, ``zst``, ``zip``.

    Raises:
        DataError: The file is empty or of a kind that holds no table.
    """
    head = read_head(path, 512)
    if not head:
        raise DataError(f"The file '{name}' is empty (0 bytes).", code="MW1120", where=name)
    refuse_foreign(head, name)
    compression = _compression(head)
    if compression == "zip" and _is_workbook(path, name):
        return "excel", ""
    if not compression:
        return _format(head, name), ""
    inner = name.rsplit(".", 1)[0] if name.lower().endswith((".gz", ".bz2", ".xz", ".zst", ".zip")) else name
    return _format(b"", inner), compression


def read_head(path: Path, size: int) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(size)


def refuse_foreign(head: bytes, name: str) -> None:
    """Refuse kinds of file that are common and hold no table.

    Raises:
        DataError: With the name of the kind.
    """
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise DataError(
                f"'{name}' is {what}, not a table.",
                code="MW1121",
                where=name,
                hint="give a CSV, Parquet or JSON file",
            )
    if head[257:262] == b"ustar":
        raise DataError(
            f"'{name}' is an archive of files, not a table.",
            code="MW1121",
            where=name,
            hint="unpack it first",
        )


_FOREIGN = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3", "an SQLite database (read it with a connection URL and --query)"),
    (b"\x7fELF", "a program"),
    (b"\x80\x04\x95", "a Python pickle, which is never opened,"),
    (b"\x80\x05\x95", "a Python pickle, which is never opened,"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive"),
    (b"Rar!", "a RAR archive"),
)


def _compression(head: bytes) -> str:
    for magic, compression in (
        (b"\x1f\x8b", "gz"),
        (b"BZh", "bz2"),
        (b"\xfd7zXZ", "xz"),
        (b"\x28\xb5\x2f\xfd", "zst"),
        (b"PK\x03\x04", "zip"),
    ):
        if head.startswith(magic):
            return compression
    return ""


def _is_workbook(path: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(member.startswith(("xl/", "content.xml")) for member in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"The zip file '{name}' is damaged.", code="MW1122", where=name) from error


def _format(head: bytes, name: str) -> str:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return "excel"
    suffix = name.lower().rsplit(".", 1)[-1]
    if suffix in {"parquet", "pq"} and not head:
        return "parquet"
    if suffix in {"json", "jsonl", "ndjson", "geojson"}:
        return "json"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and b'"' in head:
        return "json"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:2] in {b"[{", b"[\n", b"[ ", b"[["}:
        return "json"
    return "csv"


class CappedReader:
    """Reads a stream and counts; too many bytes, or too many for the stored size, is an error.

    Args:
        stream: Decompressed bytes.
        stored: Bytes as stored.
        limits: The caps.
        name: For messages.
    """

    def __init__(self, stream: IO[bytes] | Any, stored: int, limits: TableLimits, name: str) -> None:
        self._stream = stream
        self._cap = min(limits.decompressed_bytes, max(RATIO_FREE_BYTES, stored * limits.ratio))
        self._name = name
        self.count = 0

    def read(self, size: int, /) -> bytes:
        try:
            block: bytes = self._stream.read(size)
        except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            raise DataError(
                f"The compressed file '{self._name}' is damaged or cut off after {self.count} bytes.",
                code="MW1122",
                where=self._name,
                hint="copy the file again",
            ) from error
        except RuntimeError as error:
            raise DataError(
                f"The zip file '{self._name}' is encrypted.",
                code="MW1122",
                where=self._name,
                hint="unpack it first",
            ) from error
        self.count += len(block)
        if self.count > self._cap:
            raise LimitError(
                f"'{self._name}' unpacks to more than {self._cap:,} bytes, far more than a table of its stored size.",
                code="MW2010",
                where=self._name,
                hint="unpack it yourself and check it, or raise decompressed_bytes and ratio",
            )
        return block

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def open_bytes(path: Path, name: str, compression: str, limits: TableLimits) -> CappedReader:
    """Open a file for reading its decompressed bytes.

    Raises:
        DataError: The archive is damaged, encrypted or holds several files.
    """
    stored = path.stat().st_size
    stream: Any
    if compression == "gz":
        stream = gzip.GzipFile(path, "rb")
    elif compression == "bz2":
        stream = bz2.BZ2File(path, "rb")
    elif compression == "xz":
        stream = lzma.LZMAFile(path, "rb")  # noqa: SIM115
    elif compression == "zst":
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")
    elif compression == "zip":
        stream = _open_member(path, name)
    else:
        stream = path.open("rb")
    return CappedReader(stream, stored if compression else limits.decompressed_bytes, limits, name)


def _open_member(path: Path, name: str) -> Any:
    try:
        archive = zipfile.ZipFile(path)
        members = [
            item.filename
            for item in archive.infolist()
            if not item.is_dir() and not item.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            shown = ", ".join(members[:5])
            raise DataError(
                f"The zip file '{name}' holds {len(members)} files ({shown}); one table is expected.",
                code="MW1123",
                where=name,
                hint="unpack it and give one of the files",
            )
        return archive.open(members[0])
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"The zip file '{name}' is damaged.", code="MW1122", where=name) from error
    except RuntimeError as error:
        raise DataError(
            f"The zip file '{name}' is encrypted.", code="MW1122", where=name, hint="unpack it first"
        ) from error
