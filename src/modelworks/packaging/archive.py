"""The one-file form of a package: a plain zip, written byte for byte the same, read by a reader of our own.

The reader accepts a small part of the format (PKWARE APPNOTE 6.3.10) and refuses the rest: flat names, regular
files, stored or deflated, no encryption, no zip64, no data descriptors, no gaps, no overlaps, no comments.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelworks.core.errors import TrustError
from modelworks.packaging.manifest import MEGABYTE

END = struct.Struct("<4s4H2LH")
CENTRAL = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")
END_MARK, CENTRAL_MARK, LOCAL_MARK = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04"
STORED, DEFLATED = 0, 8
UTF8_FLAG = 0x0800
UNIX = 3
EARLIEST_DATE = 0x0021
ZIP64_EXTRA, UNICODE_PATH_EXTRA = 0x0001, 0x7075
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HINT = "make it again with: mw package export PACKAGE --to mwpkg"


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What an archive may unfold to.

    Attributes:
        files: Entries.
        bytes: Bytes of all files together, unpacked; also of the archive itself.
        ratio: Unpacked bytes per packed byte of an entry larger than 64 KiB.
    """

    files: int = 32
    bytes: int = 640 * MEGABYTE
    ratio: int = 100


@dataclass(frozen=True)
class _Entry:
    name: str
    method: int
    checksum: int
    packed: int
    size: int
    offset: int


def write_archive(files: Mapping[str, bytes]) -> bytes:
    """Return the zip of ``files``: names sorted, time stamps 1980-01-01, level 9; equal files give equal bytes."""
    body, directory = bytearray(), bytearray()
    for name in sorted(files):
        data = files[name]
        encoded = name.encode("ascii")
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(data) + packer.flush()
        method = DEFLATED
        if len(packed) >= len(data) or len(data) > 90 * len(packed):
            packed, method = data, STORED
        sizes = (zlib.crc32(data), len(packed), len(data))
        offset = len(body)
        body += (
            LOCAL.pack(LOCAL_MARK, 20, 0, method, 0, EARLIEST_DATE, *sizes, len(encoded), 0)
            + encoded
            + packed
        )
        attributes = (stat.S_IFREG | 0o644) << 16
        directory += CENTRAL.pack(
            CENTRAL_MARK, UNIX << 8 | 20, 20, 0, method, 0, EARLIEST_DATE, *sizes, len(encoded), 0, 0, 0, 0,
            attributes, offset,
        )  # fmt: skip
        directory += encoded
    end = END.pack(END_MARK, 0, 0, len(files), len(files), len(directory), len(body), 0)
    return bytes(body + directory + end)


def read_archive(path: Path, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    """Read an archive file whole into memory, once, and unpack it there.

    Raises:
        TrustError: There is no such file, or it is not an archive this reader accepts.
    """
    limits = limits or ArchiveLimits()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TrustError(
            f"There is no package here: {error.strerror}.", code="MW3101", where=str(path)
        ) from None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TrustError(
                "This is neither a package folder nor a .mwpkg file.", code="MW3101", where=str(path)
            )
        data = stream.read(limits.bytes + 1)
    return unpack_bytes(data, limits)


def unpack_bytes(data: bytes, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    """Unpack an archive in memory; returns name -> bytes.

    Raises:
        TrustError: It is not an archive this reader accepts; the message says why.
    """
    limits = limits or ArchiveLimits()
    if len(data) > limits.bytes:
        raise _refuse(f"it has more than {limits.bytes:,} bytes")
    entries = _directory(data, limits)
    _check_set(entries, limits)
    files: dict[str, bytes] = {}
    position = 0
    for entry in sorted(entries, key=lambda item: item.offset):
        if entry.offset != position:
            raise _refuse(f"'{entry.name}' does not begin where the entry before it ends (gap or overlap)")
        start = _check_local(data, entry)
        position = start + entry.packed
        files[entry.name] = _inflate(data, start, entry)
    if position != _directory_offset(data):
        raise _refuse("there are bytes between the last file and the directory")
    return files


def _directory_offset(data: bytes) -> int:
    return int(END.unpack_from(data, len(data) - END.size)[6])


def _directory(data: bytes, limits: ArchiveLimits) -> list[_Entry]:
    if len(data) < END.size or data[-END.size : -END.size + 4] != END_MARK:
        raise _refuse("it does not end as a plain zip does (cut off, or with a comment)")
    _, disk, first_disk, here, count, size, offset, comment = END.unpack_from(data, len(data) - END.size)
    if disk or first_disk or here != count or comment:
        raise _refuse("it is one part of several, or carries a comment")
    if 0xFFFF in (count, here) or 0xFFFFFFFF in (size, offset):
        raise _refuse("it uses zip64")
    if count > limits.files:
        raise _refuse(f"it has {count} entries; {limits.files} are allowed")
    if offset + size != len(data) - END.size:
        raise _refuse("its directory is not where it says")
    entries, position = [], offset
    for _ in range(count):
        entry, position = _central(data, position, len(data) - END.size)
        entries.append(entry)
    if position != len(data) - END.size:
        raise _refuse("its directory holds more than its entries")
    return entries


def _central(data: bytes, position: int, end: int) -> tuple[_Entry, int]:
    if end - position < CENTRAL.size:
        raise _refuse("its directory is cut off")
    (mark, made_by, _, flags, method, _, _, checksum, packed, size, name_size, extra_size, comment_size, disk, _,
     attributes, offset) = CENTRAL.unpack_from(data, position)  # fmt: skip
    after = position + CENTRAL.size
    stop = after + name_size + extra_size + comment_size
    if mark != CENTRAL_MARK or stop > end:
        raise _refuse("its directory is cut off")
    name = _name(data[after : after + name_size])
    _check_extra(data[after + name_size : after + name_size + extra_size], name)
    if flags & ~(UTF8_FLAG | 0x0006):
        raise _refuse(f"'{name}' is encrypted or written with flags that are not read ({flags:#06x})")
    if method not in (STORED, DEFLATED):
        raise _refuse(f"'{name}' is packed with method {method}")
    if 0xFFFFFFFF in (packed, size, offset):
        raise _refuse(f"'{name}' uses zip64")
    if disk:
        raise _refuse(f"'{name}' lies in another part")
    kind = stat.S_IFMT(attributes >> 16) if made_by >> 8 == UNIX else 0
    if kind not in (0, stat.S_IFREG) or attributes & 0x10:
        raise _refuse(f"'{name}' is not a regular file")
    return _Entry(name, method, checksum, packed, size, offset), stop


def _name(raw: bytes) -> str:
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        raise _refuse(f"a file has the name {raw[:60]!r}, which is not plain ASCII") from None
    if not _NAME.fullmatch(name):
        raise _refuse(f"a file has the name {name[:60]!r}; only flat names such as 'model.onnx' are allowed")
    return name


def _check_extra(extra: bytes, name: str) -> None:
    position = 0
    while position < len(extra):
        if len(extra) - position < 4:
            raise _refuse(f"'{name}' has a broken extra field")
        kind, size = struct.unpack_from("<HH", extra, position)
        if kind in (ZIP64_EXTRA, UNICODE_PATH_EXTRA):
            raise _refuse(f"'{name}' has an extra field that changes its size or name")
        position += 4 + size
    if position != len(extra):
        raise _refuse(f"'{name}' has a broken extra field")


def _check_set(entries: list[_Entry], limits: ArchiveLimits) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        folded = entry.name.casefold()
        if folded in seen:
            raise _refuse(f"'{seen[folded]}' and '{entry.name}' are the same name")
        seen[folded] = entry.name
        if entry.size > 65_536 and entry.size > limits.ratio * entry.packed:
            raise _refuse(f"'{entry.name}' unfolds to more than {limits.ratio} times its packed size")
    total = sum(entry.size for entry in entries)
    if total > limits.bytes:
        raise _refuse(f"it unfolds to {total:,} bytes; {limits.bytes:,} are allowed")


def _check_local(data: bytes, entry: _Entry) -> int:
    """Raise unless the header before the file says what the directory says; returns where its bytes begin."""
    limit = _directory_offset(data)
    if entry.offset + LOCAL.size > limit:
        raise _refuse(f"'{entry.name}' lies outside the archive")
    mark, _, flags, method, _, _, checksum, packed, size, name_size, extra_size = LOCAL.unpack_from(
        data, entry.offset
    )
    start: int = entry.offset + LOCAL.size + name_size + extra_size
    if mark != LOCAL_MARK or start + entry.packed > limit:
        raise _refuse(f"'{entry.name}' lies outside the archive")
    name = data[entry.offset + LOCAL.size : entry.offset + LOCAL.size + name_size]
    _check_extra(data[start - extra_size : start], entry.name)
    same = (method, checksum, packed, size) == (entry.method, entry.checksum, entry.packed, entry.size)
    if name != entry.name.encode() or not same or flags & ~(UTF8_FLAG | 0x0006):
        raise _refuse(f"'{entry.name}' has a header that differs from the directory")
    return start


def _inflate(data: bytes, start: int, entry: _Entry) -> bytes:
    packed = memoryview(data)[start : start + entry.packed]
    if entry.method == STORED:
        found = bytes(packed)
    else:
        unpacker = zlib.decompressobj(-15)
        try:
            found = unpacker.decompress(packed, entry.size + 1)
        except zlib.error:
            raise _refuse(f"'{entry.name}' cannot be unpacked") from None
        if not unpacker.eof or unpacker.unused_data or unpacker.unconsumed_tail:
            raise _refuse(f"'{entry.name}' has another size than it says")
    if len(found) != entry.size or zlib.crc32(found) != entry.checksum:
        raise _refuse(f"'{entry.name}' has another size or checksum than it says")
    return found


def _refuse(why: str) -> TrustError:
    return TrustError(f"The archive is refused: {why}.", code="MW3401", hint=_HINT)
