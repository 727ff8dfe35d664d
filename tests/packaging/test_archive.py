"""The .mwpkg reader against archives made to get out, to blow up or to be read in two ways (S12)."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import TrustError
from modelworks.packaging.archive import CENTRAL, END, LOCAL, ArchiveLimits, unpack_bytes, write_archive


@dataclass(frozen=True)
class Entry:
    """One entry of a hand-made zip; any field of the two headers can be a lie."""

    name: bytes = b"card.md"
    data: bytes = b"hello"
    method: int = 0
    flags: int = 0
    made_by: int = 3 << 8 | 20
    mode: int = stat.S_IFREG | 0o644
    low_attributes: int = 0
    extra: bytes = b""
    comment: bytes = b""
    disk: int = 0
    packed: bytes | None = None
    size: int | None = None
    packed_size: int | None = None
    checksum: int | None = None
    offset: int | None = None
    local: dict[str, object] = field(default_factory=dict)

    def body(self) -> bytes:
        if self.packed is not None:
            return self.packed
        if self.method == 8:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            return packer.compress(self.data) + packer.flush()
        return self.data

    def sizes(self) -> tuple[int, int, int]:
        return (
            zlib.crc32(self.data) if self.checksum is None else self.checksum,
            len(self.body()) if self.packed_size is None else self.packed_size,
            len(self.data) if self.size is None else self.size,
        )


def archive(
    *entries: Entry, before: bytes = b"", between: bytes = b"", comment: bytes = b"", **end: int
) -> bytes:
    body, directory = bytearray(before), bytearray()
    for entry in entries:
        offset = len(body) if entry.offset is None else entry.offset
        told = replace(entry, **entry.local)
        body += LOCAL.pack(
            b"PK\x03\x04", 20, told.flags, told.method, 0, 33, *told.sizes(), len(told.name), len(told.extra)
        )
        body += told.name + told.extra + entry.body() + between
        directory += CENTRAL.pack(
            b"PK\x01\x02", entry.made_by, 20, entry.flags, entry.method, 0, 33, *entry.sizes(), len(entry.name),
            len(entry.extra), len(entry.comment), entry.disk, 0, entry.mode << 16 | entry.low_attributes, offset,
        )  # fmt: skip
        directory += entry.name + entry.extra + entry.comment
    fields = {
        "disk": 0, "first": 0, "here": len(entries), "count": len(entries), "size": len(directory), "offset": len(body),
        "comment": len(comment), **end,
    }  # fmt: skip
    return bytes(body + directory) + END.pack(b"PK\x05\x06", *fields.values()) + comment


BOMB = b"\0" * 2**20
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "parent folder": (lambda: archive(Entry(name=b"../card.md")), "flat names"),
    "parent folder inside": (lambda: archive(Entry(name=b"a/../../card.md")), "flat names"),
    "only dots": (lambda: archive(Entry(name=b"..")), "flat names"),
    "absolute": (lambda: archive(Entry(name=b"/etc/cron.d/x")), "flat names"),
    "drive letter": (lambda: archive(Entry(name=b"C:card.md")), "flat names"),
    "drive and backslash": (lambda: archive(Entry(name=b"C:\\card.md")), "flat names"),
    "backslash": (lambda: archive(Entry(name=b"..\\card.md")), "flat names"),
    "network path": (lambda: archive(Entry(name=b"\\\\host\\share")), "flat names"),
    "subfolder": (lambda: archive(Entry(name=b"sub/card.md")), "flat names"),
    "folder entry": (lambda: archive(Entry(name=b"sub/", data=b"")), "flat names"),
    "folder attribute": (lambda: archive(Entry(low_attributes=0x10)), "not a regular file"),
    "empty name": (lambda: archive(Entry(name=b"")), "flat names"),
    "hidden file": (lambda: archive(Entry(name=b".bashrc")), "flat names"),
    "zero byte in the name": (lambda: archive(Entry(name=b"card.md\0.png")), "flat names"),
    "line end in the name": (lambda: archive(Entry(name=b"card.md\n")), "flat names"),
    "name of 5000 bytes": (lambda: archive(Entry(name=b"a" * 5000)), "flat names"),
    "name that is not ASCII": (lambda: archive(Entry(name="c\u0430rd.md".encode(), flags=0x800)), "ASCII"),
    "symbolic link": (
        lambda: archive(Entry(data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)),
        "not a regular file",
    ),
    "device": (lambda: archive(Entry(mode=stat.S_IFCHR | 0o666)), "not a regular file"),
    "pipe": (lambda: archive(Entry(mode=stat.S_IFIFO | 0o666)), "not a regular file"),
    "same name twice": (lambda: archive(Entry(), Entry(data=b"other")), "same name"),
    "names that differ in case": (lambda: archive(Entry(), Entry(name=b"CARD.md")), "same name"),
    "too many files": (lambda: archive(*(Entry(name=b"f%d" % index) for index in range(40))), "40 entries"),
    "too many bytes": (
        lambda: archive(Entry(data=b"x" * 3000), Entry(name=b"b", data=b"x" * 3000)),
        "unfolds to 6,000",
    ),
    "bomb": (lambda: archive(Entry(data=BOMB, method=8)), "100 times"),
    "bomb that lies about its size": (lambda: archive(Entry(data=BOMB, method=8, size=50)), "another size"),
    "size larger than the data": (lambda: archive(Entry(size=500)), "another size"),
    "packed size larger than the data": (lambda: archive(Entry(packed_size=5000)), "outside the archive"),
    "wrong checksum": (lambda: archive(Entry(checksum=1)), "checksum"),
    "broken deflate": (lambda: archive(Entry(method=8, packed=b"\xff\xff\xff")), "cannot be unpacked"),
    "deflate with a tail": (
        lambda: archive(Entry(method=8, packed=zlib.compress(b"hello")[2:-4] + b"tail")),
        "another size",
    ),
    "encrypted": (lambda: archive(Entry(flags=0x1)), "encrypted"),
    "strongly encrypted": (lambda: archive(Entry(flags=0x41)), "encrypted"),
    "data descriptor": (lambda: archive(Entry(flags=0x8)), "flags"),
    "bzip2": (lambda: archive(Entry(method=12)), "method 12"),
    "zip64 size": (lambda: archive(Entry(size=0xFFFFFFFF)), "zip64"),
    "zip64 count": (lambda: archive(Entry(), count=0xFFFF, here=0xFFFF), "zip64"),
    "zip64 extra field": (lambda: archive(Entry(extra=struct.pack("<HHQ", 1, 8, 5))), "extra field"),
    "unicode path extra field": (
        lambda: archive(Entry(extra=struct.pack("<HHBI", 0x7075, 5, 1, 0))),
        "extra field",
    ),
    "broken extra field": (lambda: archive(Entry(extra=b"\x01")), "extra field"),
    "overlapping entries": (lambda: archive(Entry(), Entry(name=b"b", offset=0)), "overlap|differs"),
    "quine-like overlap": (lambda: archive(Entry(data=b"x" * 90), Entry(name=b"b", offset=20)), "overlap"),
    "entry outside": (lambda: archive(Entry(offset=10**6)), "gap or overlap|outside"),
    "gap before the first": (lambda: archive(Entry(), before=b"#!/bin/sh\n"), "gap"),
    "gap between": (lambda: archive(Entry(), Entry(name=b"b"), between=b"hidden"), "gap"),
    "gap after the last": (
        lambda: archive(Entry(), between=b"hidden"),
        "between the last file and the directory",
    ),
    "two headers, two names": (
        lambda: archive(Entry(local={"name": b"evil.md"})),
        "differs from the directory",
    ),
    "two headers, two methods": (lambda: archive(Entry(local={"method": 8})), "differs|outside"),
    "two headers, two sizes": (lambda: archive(Entry(local={"size": 4})), "differs"),
    "archive comment": (lambda: archive(Entry(), comment=b"PK\x05\x06"), "plain zip|comment"),
    "several parts": (lambda: archive(Entry(), disk=1), "several"),
    "entry in another part": (lambda: archive(Entry(disk=3)), "another part"),
    "directory elsewhere": (lambda: archive(Entry(), offset=1), "directory is not where"),
    "more in the directory": (
        lambda: archive(Entry(), Entry(name=b"b"), count=1, here=1),
        "more than its entries",
    ),
    "fewer in the directory": (lambda: archive(Entry(), count=2, here=2), "cut off"),
    "nothing": (lambda: b"", "plain zip"),
    "no zip": (lambda: b"hello" * 100, "plain zip"),
    "tar": (lambda: b"card.md".ljust(1024, b"\0"), "plain zip"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_the_message_says_why(name: str) -> None:
    make, why = HOSTILE[name]
    limits = ArchiveLimits(bytes=5000) if name == "too many bytes" else ArchiveLimits()
    with pytest.raises(TrustError, match=why) as refused:
        unpack_bytes(make() if name != "too many bytes" else deflated_pair(), limits)
    assert refused.value.hint


def deflated_pair() -> bytes:
    return archive(Entry(data=b"xy" * 1500, method=8), Entry(name=b"b", data=b"xy" * 1500, method=8))


def test_the_corpus_is_one_flaw_away_from_an_archive_that_opens() -> None:
    assert unpack_bytes(archive(Entry(), Entry(name=b"b", method=8))) == {"card.md": b"hello", "b": b"hello"}
    assert len(HOSTILE) >= 30


def test_an_archive_of_the_usual_zip_tools_opens() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("card.md", b"hello" * 100)
    assert unpack_bytes(stream.getvalue()) == {"card.md": b"hello" * 100}


def test_an_extra_field_that_changes_nothing_is_let_by() -> None:
    timestamp = struct.pack("<HHBI", 0x5455, 5, 1, 1_700_000_000)
    assert unpack_bytes(archive(Entry(extra=timestamp))) == {"card.md": b"hello"}


FILES = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), st.binary(max_size=2000), max_size=8
).filter(lambda files: len({name.casefold() for name in files}) == len(files))


@settings(max_examples=100, deadline=None)
@given(FILES)
def test_what_is_written_is_read_back_by_us_and_by_others(files: dict[str, bytes]) -> None:
    data = write_archive(files)
    assert unpack_bytes(data) == files
    assert write_archive(dict(reversed(files.items()))) == data
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == files


def test_very_regular_bytes_survive_the_ratio_limit() -> None:
    assert unpack_bytes(write_archive({"zeros": BOMB})) == {"zeros": BOMB}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_refused_or_gives_the_same_files(data: st.DataObject) -> None:
    files = {"a": b"first" * 20, "b": bytes(range(256))}
    good = write_archive(files)
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpack_bytes(bytes(bad))
    except TrustError:
        return
    assert found.keys() == files.keys() or set(found.values()) == set(files.values())
