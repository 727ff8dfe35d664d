"""The frames of HTTP/2 (RFC 9113) and the answers of gRPC as bytes."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from modelworks.serving.rpc.hpack import encode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = Struct(">BHBBI")
"""Length (1 + 2 bytes), type, flags, stream."""
HEAD_BYTES = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = range(1, 7)
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384
LARGEST_WINDOW = 2**31 - 1


class Code(IntEnum):
    """The error codes of HTTP/2."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionBroken(Exception):
    """The peer broke the rules; the connection ends.

    Attributes:
        code: What it did.
        reason: The same in words.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Return one frame."""
    length = len(payload)
    return HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def unpadded(flags: int, payload: bytes) -> bytes:
    """Return the payload of a DATA or HEADERS frame without its padding.

    Raises:
        ConnectionBroken: The padding is longer than the payload.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "the padding is longer than the frame")
    return payload[1 : len(payload) - payload[0]]


# -- answers -------------------------------------------------------------------------------------------------------

_SETTING = Struct(">HI")
OPENING = b"\x88" + encode([(b"content-type", b"application/grpc")])
"""``:status 200`` and the type: the header block before the first message of an answer."""
_GOOD = encode([(b"grpc-status", b"0")])
_OPEN = Struct(f">BHBBI{len(OPENING)}sBHBBIBI")
_CLOSE = Struct(f">BHBBI{len(_GOOD)}s")


def whole_answer(stream: int, message: bytes) -> bytes:
    """Return headers, one message and the trailers of a call that went well, in three frames."""
    length = len(message)
    return b"".join(
        (
            _OPEN.pack(
                0, len(OPENING), HEADERS, END_HEADERS, stream, OPENING,
                (length + 5) >> 16, (length + 5) & 0xFFFF, DATA, 0, stream, 0, length,
            ),
            message,
            _CLOSE.pack(0, len(_GOOD), HEADERS, END_HEADERS | END_STREAM, stream, _GOOD),
        )
    )  # fmt: skip


def opening(stream: int) -> bytes:
    """Return the headers of an answer."""
    return frame(HEADERS, END_HEADERS, stream, OPENING)


def trailers(stream: int, status: int, text: str, *, opened: bool) -> bytes:
    """Return the end of a call; without headers before it, it holds these too."""
    fields = [(b"grpc-status", str(status).encode())]
    if text:
        fields.append((b"grpc-message", _percent_encoded(text)))
    if status == _UNIMPLEMENTED:
        fields.append((b"grpc-accept-encoding", b"identity,deflate,gzip"))
    block = encode(fields) if opened else OPENING + encode(fields)
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block)


def http_answer(stream: int, status: int) -> bytes:
    """Return the answer to what is no gRPC call."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x08\x03" + str(status).encode())


_UNIMPLEMENTED = 12


def _percent_encoded(text: str) -> bytes:
    return b"".join(
        bytes([byte]) if 0x20 <= byte < 0x7F and byte != 0x25 else b"%%%02X" % byte
        for byte in text.encode()[:4096]
    )


def framed(message: bytes) -> bytes:
    """Return a message with gRPC's five bytes before it, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message
