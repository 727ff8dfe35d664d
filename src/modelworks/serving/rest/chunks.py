"""Decoding a chunked body (RFC 9112, section 7.1), strictly and within limits."""

from __future__ import annotations

from modelworks.serving.rest.heads import BadHead

_MAX_LINE = 256
_MAX_TRAILERS = 4096
_FREE_OVERHEAD = 64 * 1024
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ChunkDecoder:
    """Feeds on bytes until the last chunk and the trailers have passed.

    Args:
        limit: Most bytes of the decoded body.

    Attributes:
        body: Decoded bytes so far.
        done: Whether the body is complete.
        rest: Bytes after the body, once it is complete.
    """

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self.done = False
        self.rest = b""
        self._limit = limit
        self._pending = b""
        self._left = -1
        self._last = False
        self._overhead = 0

    def feed(self, data: bytes) -> None:
        """Take in bytes.

        Raises:
            BadHead: 400 for a malformed chunk, 413 for a body over the limit.
        """
        data = self._pending + data if self._pending else data
        position = 0
        while not self.done:
            moved = self._trailers(data, position) if self._last else self._chunk(data, position)
            if moved < 0:
                break
            position = moved
        if self.done:
            self.rest, self._pending = data[position:], b""
        else:
            self._pending = data[position:]

    def _chunk(self, data: bytes, position: int) -> int:
        """Handle one size line or one chunk; returns the new position, -1 if bytes are missing."""
        if self._left < 0:
            end = data.find(b"\r\n", position)
            if end < 0 or end - position > _MAX_LINE:
                if len(data) - position > _MAX_LINE:
                    raise BadHead(400, "a chunk's size line is too long")
                return -1
            self._left = _size(data[position:end])
            self._overhead += end + 4 - position
            if self._overhead > _FREE_OVERHEAD + 2 * len(self.body):
                raise BadHead(400, "the chunks hold more framing than body")
            self._last = self._left == 0
            if len(self.body) + self._left > self._limit:
                raise BadHead(413, f"the body has more than {self._limit} bytes")
            return end + 2
        available = len(data) - position
        if available < self._left + 2:
            return self._part(data, position, available)
        end = position + self._left
        if data[end : end + 2] != b"\r\n":
            raise BadHead(400, "a chunk does not end where its size says")
        self.body += data[position:end]
        self._left = -1
        return end + 2

    def _part(self, data: bytes, position: int, available: int) -> int:
        """Take in the bytes of a chunk that is still on its way, so that nothing is buffered twice."""
        take = min(available, self._left)
        if take == 0:
            return -1
        self.body += data[position : position + take]
        self._left -= take
        self._pending = b""
        return position + take

    def _trailers(self, data: bytes, position: int) -> int:
        if data[position : position + 2] == b"\r\n":
            self.done = True
            return position + 2
        end = data.find(b"\r\n\r\n", position)
        if end < 0:
            if len(data) - position > _MAX_TRAILERS:
                raise BadHead(431, "the trailers are too long")
            return -1
        _check_lines(data[position:end])
        self.done = True
        return end + 4


def _check_lines(data: bytes) -> None:
    """Refuse a bare CR or LF: it ends a line for some programs and not for others."""
    if data.count(b"\r\n") != data.count(b"\n") or data.count(b"\r\n") != data.count(b"\r"):
        raise BadHead(400, "a line of a chunk or trailer ends in a bare CR or LF")


def _size(line: bytes) -> int:
    _check_lines(line)
    digits = line.partition(b";")[0].rstrip(b" \t")
    if not digits or len(digits) > 12 or not _HEX.issuperset(digits):
        raise BadHead(400, "a chunk's size is not a hexadecimal number")
    return int(digits, 16)
