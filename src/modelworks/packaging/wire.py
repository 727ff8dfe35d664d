"""A strict reader of the protobuf wire format: known fields only, no groups, nothing twice, no recursion.

It reads bytes into plain lists and arrays without any native parser, so a hostile file can only be refused.
Format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
_RUN_BYTES = 2**16
_RUN_WORTH = 16


class WireError(ValueError):
    """The bytes are not a message of the expected shape."""


@dataclass(frozen=True)
class Field:
    """A field of a message.

    Attributes:
        name: Key in the result.
        wire: Wire type of one value.
        many: Whether it may occur more than once.
        texts: Whether many short texts are usual here.
    """

    name: str
    wire: Literal[0, 1, 2, 5]
    many: bool = False
    texts: bool = False


@dataclass(frozen=True)
class TextRun:
    """Many short texts of one repeated field.

    Attributes:
        region: Their bytes, tags and lengths included.
        starts, ends: Where each text lies in ``region``.
    """

    region: bytes
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def equal_to(self, text: bytes) -> npt.NDArray[np.bool_]:
        """Say of each text whether it is ``text``."""
        same = np.asarray(self.ends - self.starts == len(text))
        window = np.frombuffer(self.region, np.uint8)
        for offset, byte in enumerate(text):
            same[same] = window[self.starts[same] + offset] == byte
        return same


def read_message(data: memoryview, fields: Mapping[int, Field]) -> dict[str, list[Any]]:
    """Read one message; returns field name -> values in order.

    Varints are returned unsigned (64 bits), fixed values as little-endian ``memoryview`` or array, bytes
    as ``memoryview`` without a copy. Long runs of a repeated number come as one ``numpy`` array in the list, short
    texts of a field that usually holds many as one ``TextRun``.

    Raises:
        WireError: An unknown field, a wrong wire type, a repeated single field or a cut-off value.
    """
    found: dict[str, list[Any]] = {}
    position, end = 0, len(data)
    while position < end:
        tag, after = _varint(data, position)
        if after - position > 1 and data[after - 1] == 0:
            # Every writer uses the shortest form; a padded tag would not match the runs that are looked for below.
            raise WireError("a tag is written longer than it needs")
        field = fields.get(tag >> 3)
        if field is None:
            raise WireError(f"field {tag >> 3} is not known here")
        wire = tag & 7
        values = found.setdefault(field.name, [])
        if values and not field.many:
            raise WireError(f"'{field.name}' occurs twice")
        if wire == field.wire and field.many and wire in (VARINT, FIXED32) and len(values) > _RUN_WORTH:
            run, position = _run(data, position, tag, wire)
            values.append(run)
            continue
        if field.texts and wire == BYTES:
            position = _short_texts(data, position, tag, values)
            if position == end or data[position] != tag:
                continue
            after = position + 1
        position = _one(data, after, field, wire, values)
    return found


def numbers(
    values: list[Any], kind: Literal["int64", "float32", "float64", "uint64", "int32"]
) -> npt.NDArray[Any]:
    """Join what ``read_message`` returned for a repeated number, packed or not, into one array."""
    parts: list[npt.NDArray[Any]] = []
    loose: list[int] = []
    for value in values:
        if isinstance(value, int):
            loose.append(value)
            continue
        if loose:
            parts.append(np.array(loose, np.uint64))
            loose = []
        if isinstance(value, memoryview):
            value = _packed(value, kind)
        parts.append(value)
    if loose:
        parts.append(np.array(loose, np.uint64))
    if not parts:
        return np.zeros(0, kind)
    if kind == "int32":
        return np.concatenate([part.astype(np.int64) for part in parts])
    return np.concatenate([part.view(kind) for part in parts])


def count(value: Any) -> int:
    """Return how many values one entry of a repeated field holds, or more."""
    return 1 if isinstance(value, int) else len(value)


def count_texts(values: list[Any]) -> int:
    """Return how many texts ``read_message`` returned for a repeated field."""
    return sum(len(value) if isinstance(value, TextRun) else 1 for value in values)


def text_bytes(values: list[Any]) -> int:
    """Return the bytes of all texts of a repeated field."""
    return sum(
        int((value.ends - value.starts).sum()) if isinstance(value, TextRun) else len(value)
        for value in values
    )


def texts_equal(values: list[Any], text: bytes) -> npt.NDArray[np.bool_]:
    """Say of each text of a repeated field whether it is ``text``."""
    parts = [
        value.equal_to(text) if isinstance(value, TextRun) else np.array([value == text]) for value in values
    ]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def text(value: memoryview, limit: int = 65_536) -> str:
    """Decode a text of at most ``limit`` bytes."""
    if len(value) > limit:
        raise WireError(f"a text of {len(value):,} bytes; {limit:,} are allowed")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise WireError("a text is not UTF-8") from None


def signed(value: int) -> int:
    """Return the int64 that a varint stands for."""
    return value - 2**64 if value >= 2**63 else value


def _one(data: memoryview, position: int, field: Field, wire: int, values: list[Any]) -> int:
    if wire == BYTES and (field.wire == BYTES or field.many):
        size, position = _varint(data, position)
        if size > len(data) - position:
            raise WireError(f"'{field.name}' is cut off")
        values.append(data[position : position + size])
        return position + size
    if wire != field.wire:
        raise WireError(f"'{field.name}' has wire type {wire}")
    if wire == VARINT:
        value, position = _varint(data, position)
        values.append(value)
        return position
    size = 4 if wire == FIXED32 else 8
    if size > len(data) - position:
        raise WireError(f"'{field.name}' is cut off")
    values.append(data[position : position + size])
    return position + size


def _short_texts(data: memoryview, position: int, tag: int, values: list[Any]) -> int:
    """Append a run of equal-tagged values of less than 128 bytes at the speed of the regular-expression engine.

    A tree ensemble names the mode of every node in such a run. The expression is unambiguous (the length byte
    decides) and possessive, so it never goes back.
    """
    run, one = text_patterns(tag)
    found = run.match(data, position)
    if found is None:
        return position
    values.append(_text_run(bytes(found.group()), tag, one))
    return found.end()


def _text_run(region: bytes, tag: int, one: re.Pattern[bytes]) -> TextRun:
    """Find where each text of a run begins.

    The bytes that look like a tag are where the texts begin if each is as far from the next as its length byte
    says (the usual case: no text holds such a byte); else the texts are taken one by one.
    """
    window = np.frombuffer(region, np.uint8)
    marks = np.flatnonzero(window == tag)
    ends = np.append(marks[1:], len(window))
    if marks[0] != 0 or marks[-1] + 1 >= len(window) or (ends - marks - 2 != window[marks + 1]).any():
        sizes = np.fromiter((len(item) for item in one.findall(region)), np.int64)
        marks = np.cumsum(sizes) - sizes
        ends = marks + sizes
    return TextRun(region, marks + 2, ends)


@cache
def text_patterns(tag: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return expressions for a run of short texts after ``tag`` and for one of them; built once per process."""
    usual = (4, 10, 9, 11)
    sizes = [*usual, *(size for size in range(128) if size not in usual)]
    mark = re.escape(bytes([tag]))
    token = mark + b"(?:" + b"|".join(re.escape(bytes([size])) + b".{%d}" % size for size in sizes) + b")"
    return re.compile(b"(?:" + token + b")++", re.DOTALL), re.compile(token, re.DOTALL)


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    for offset in range(10):
        if position + offset >= len(data):
            break
        byte = data[position + offset]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, position + offset + 1
        shift += 7
    raise WireError("a number is cut off or longer than 64 bits")


def _run(data: memoryview, position: int, tag: int, wire: int) -> tuple[npt.NDArray[Any], int]:
    """Read as many equal-tagged values as follow, at once."""
    window = np.frombuffer(data[position : position + _RUN_BYTES], np.uint8)
    if tag > 0x7F:
        raise WireError("a repeated number has a long tag")
    if wire == FIXED32:
        rows = window[: len(window) // 5 * 5].reshape(-1, 5)
        count = _leading(rows[:, 0] == tag)
        if count == 0:
            raise WireError("a repeated number is cut off")
        return np.ascontiguousarray(rows[:count, 1:]).view("<u4").ravel(), position + 5 * count
    ends = np.flatnonzero(window < 0x80)
    pairs = len(ends) // 2
    starts = np.concatenate([[-1], ends[:-1]]) + 1 if len(ends) else ends
    tags, tag_ends = starts[0 : 2 * pairs : 2], ends[0 : 2 * pairs : 2]
    count = _leading((tags == tag_ends) & (window[tags] == tag))
    if count == 0:
        raise WireError("a repeated number is cut off")
    last = int(ends[2 * count - 1])
    values = _varints(window, starts[1 : 2 * count : 2], ends[1 : 2 * count : 2])
    return values, position + last + 1


def _varints(
    window: npt.NDArray[np.uint8], starts: npt.NDArray[Any], ends: npt.NDArray[Any]
) -> npt.NDArray[np.uint64]:
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > 10:
        raise WireError("a number is longer than 64 bits")
    values = np.zeros(len(starts), np.uint64)
    for index in range(longest):
        inside = lengths > index
        byte = window[starts[inside] + index].astype(np.uint64)
        values[inside] |= (byte & np.uint64(0x7F)) << np.uint64(7 * index)
    return values


def _packed(value: memoryview, kind: str) -> npt.NDArray[Any]:
    if kind in ("float32", "float64"):
        size = 4 if kind == "float32" else 8
        if len(value) % size:
            raise WireError("packed numbers are cut off")
        return np.frombuffer(value, "<u4" if size == 4 else "<u8")
    window = np.frombuffer(value, np.uint8)
    ends = np.flatnonzero(window < 0x80)
    if len(window) and (len(ends) == 0 or ends[-1] != len(window) - 1):
        raise WireError("packed numbers are cut off")
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1] + 1]) if len(ends) else ends
    return _varints(window, starts, ends)


def _leading(mask: npt.NDArray[np.bool_]) -> int:
    """Return how many values at the start are true."""
    wrong = np.flatnonzero(~mask)
    return int(wrong[0]) if len(wrong) else len(mask)
