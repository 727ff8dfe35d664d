"""Header compression of HTTP/2 (RFC 7541): a decoder, and the few fields a gRPC server sends."""

from __future__ import annotations

from collections import deque

TABLE_BYTES = 4096
_ENTRY_OVERHEAD = 32

_STATIC_FIELDS = """\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate"""

_STATIC: list[tuple[bytes, bytes]] = []
for _line in _STATIC_FIELDS.splitlines():
    _name, _, _value = _line.partition(" ")
    _STATIC.append((_name.encode(), _value.encode()))

# The code of RFC 7541, appendix B, is canonical: symbols by length, and within a length by value. 256 ends a text.
_SYMBOLS: dict[int, list[int]] = {
    5: list(b"012aceiost"),
    6: list(b" %-./3456789=A_bdfghlmnpru"),
    7: list(b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    8: list(b"&*,;XZ"),
    10: list(b'!"()?'),
    11: list(b"'+|"),
    12: list(b"#>"),
    13: list(b"\x00$@[]~"),
    14: list(b"^}"),
    15: list(b"<`{"),
    19: [92, 195, 208],
    20: [128, 130, 131, 162, 184, 194, 224, 226],
    21: [153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230],
    22: [129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
         196, 198, 228, 232, 233],
    23: [1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180,
         182, 183, 188, 191, 197, 231, 239],
    24: [9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237],
    25: [199, 207, 234, 235],
    26: [192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255],
    27: [203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254],
    28: [2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220,
         249],
    30: [10, 13, 22, 256],
}  # fmt: skip
_END = 256


def _codes() -> dict[int, int]:
    """Return code with a leading 1 bit -> symbol."""
    found: dict[int, int] = {}
    code = length = 0
    for longer, symbols in _SYMBOLS.items():
        code <<= longer - length
        length = longer
        for symbol in symbols:
            found[1 << length | code] = symbol
            code += 1
    return found


_CODES = _codes()


class BadBlock(Exception):
    """A header block that cannot be decoded; the connection's state is lost with it."""


def decode_text(data: bytes) -> bytes:
    """Undo the Huffman code of a text.

    Raises:
        BadBlock: It is not padded as the RFC demands, or holds the end symbol.
    """
    found = bytearray()
    code = 1
    for byte in data:
        for shift in (7, 6, 5, 4, 3, 2, 1, 0):
            code = code << 1 | byte >> shift & 1
            symbol = _CODES.get(code)
            if symbol is not None:
                if symbol == _END:
                    raise BadBlock("the end symbol stands within a text")
                found.append(symbol)
                code = 1
    # What is left must be fewer than 8 bits, all ones.
    if code >= 1 << 8 or code & (code + 1):
        raise BadBlock("a text is padded wrongly")
    return bytes(found)


class HeaderDecoder:
    """Decodes the header blocks of one connection, in order.

    Attributes:
        changes: How often the table changed: the same bytes mean the same fields while it stays.

    Args:
        most_bytes: Most bytes of the decoded fields of a block, 32 for each field included.
    """

    def __init__(self, most_bytes: int) -> None:
        self.changes = 0
        self._most_bytes = most_bytes
        self._table: deque[tuple[bytes, bytes]] = deque()
        self._bytes = 0
        self._limit = TABLE_BYTES

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]] | None:
        """Return the fields of a block; ``None`` if they are too long, the table is up to date then all the same.

        Raises:
            BadBlock: It is malformed.
        """
        fields: list[tuple[bytes, bytes]] = []
        size = at = 0
        while at < len(block):
            byte = block[at]
            if byte & 0x80:
                index, at = _number(block, at, 7)
                field = self._field(index)
            elif byte & 0xE0 == 0x20:
                if fields or size:
                    raise BadBlock("the table is resized within a block")
                limit, at = _number(block, at, 5)
                self._resize(limit)
                continue
            else:
                index, at = _number(block, at, 6 if byte & 0x40 else 4)
                if index:
                    name = self._field(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                field = (name, value)
                if byte & 0x40:
                    self._add(field)
            size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
            if size <= self._most_bytes:
                fields.append(field)
        return fields if size <= self._most_bytes else None

    def _field(self, index: int) -> tuple[bytes, bytes]:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        if not 0 < index - len(_STATIC) <= len(self._table):
            raise BadBlock("a field refers to nothing")
        return self._table[index - len(_STATIC) - 1]

    def _add(self, field: tuple[bytes, bytes]) -> None:
        self.changes += 1
        self._table.appendleft(field)
        self._bytes += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        self._shrink()

    def _resize(self, limit: int) -> None:
        if limit > TABLE_BYTES:
            raise BadBlock("the table is larger than was agreed")
        self.changes += 1
        self._limit = limit
        self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self._limit:
            name, value = self._table.pop()
            self._bytes -= len(name) + len(value) + _ENTRY_OVERHEAD


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Return an integer of a prefix of ``bits`` bits, and where it ends."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        if at >= len(block) or shift > 28:
            raise BadBlock("an integer is cut short or too long")
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise BadBlock("a text is missing")
    coded = block[at] & 0x80
    length, at = _number(block, at, 7)
    end = at + length
    if end > len(block):
        raise BadBlock("a text is cut short")
    data = block[at:end]
    return decode_text(data) if coded else data, end


def encode(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Return a header block of literal fields: it neither reads nor changes the peer's table."""
    found = bytearray()
    for name, value in fields:
        found += b"\x00" + _sized(name) + _sized(value)
    return bytes(found)


def _sized(text: bytes) -> bytes:
    length = len(text)
    if length < 0x7F:
        return bytes([length]) + text
    head = bytearray([0x7F])
    length -= 0x7F
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + text
