"""Calls on one HTTP/2 connection: what their headers say, the message as it comes in, the answer as it goes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modelworks.serving.rpc.frames import framed, http_answer, trailers
from modelworks.serving.rpc.hpack import HeaderDecoder
from modelworks.serving.rpc.statuses import Status

if TYPE_CHECKING:
    from modelworks.serving.rpc.connection import Http2Connection

_REMEMBERED = 16
_SHORT = 2048
"""Bytes of headers, and of their block, up to which they are remembered: every stranger has connections."""
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
CODINGS = frozenset({"identity", "gzip", "deflate"})


@dataclass(frozen=True, slots=True)
class CallHead:
    """What the headers of a call say; equal header blocks share one.

    Attributes:
        method: ``/package.Service/Method``.
        metadata: Lower-case name -> text; of a name that is repeated, the last.
        timeout_s: Seconds the client waits; ``None`` if it does not say.
        coding: How compressed messages are.
        http_status: The answer if this is no gRPC call at all; 0 if it is.
        failure: The answer if it is one that cannot be taken.
    """

    method: str
    metadata: Mapping[str, str]
    timeout_s: float | None = None
    coding: str = "identity"
    http_status: int = 0
    failure: tuple[Status, str] | None = None


def head_of(fields: list[tuple[bytes, bytes]] | None, limit: int) -> CallHead | None:
    """Read the fields of a request; ``None`` if they are malformed, so that the stream is reset."""
    if fields is None:
        return CallHead(
            "", {}, failure=(Status.RESOURCE_EXHAUSTED, f"MW2310: The metadata is over {limit} bytes.")
        )
    pseudo: dict[bytes, bytes] = {}
    metadata: dict[str, str] = {}
    for name, value in fields:
        if name.startswith(b":"):
            if metadata or name in pseudo or name not in {b":method", b":scheme", b":path", b":authority"}:
                return None
            pseudo[name] = value
        elif name != name.lower() or name in {b"connection", b"transfer-encoding", b"upgrade"}:
            return None
        elif not name.endswith(b"-bin"):
            metadata[name.decode("latin-1")] = value.decode("latin-1")
    if not {b":method", b":scheme", b":path"} <= pseudo.keys():
        return None
    method = pseudo[b":path"].decode("latin-1")
    if pseudo[b":method"] != b"POST":
        return CallHead(method, metadata, http_status=405)
    kind = metadata.get("content-type", "").partition(";")[0].strip()
    if kind not in {"application/grpc", "application/grpc+proto"}:
        return CallHead(method, metadata, http_status=415)
    failure = None
    coding = metadata.get("grpc-encoding", "identity")
    if coding not in CODINGS:
        failure = (Status.UNIMPLEMENTED, f"MW1412: The message coding '{coding[:40]}' is not taken.")
    timeout = metadata.get("grpc-timeout")
    timeout_s = None
    if timeout is not None:
        number, unit = timeout[:-1], _UNITS.get(timeout[-1:])
        if unit is None or not (number.isascii() and number.isdigit()) or len(number) > 8:
            failure = (Status.INVALID_ARGUMENT, "MW1418: 'grpc-timeout' is not a time.")
        else:
            timeout_s = int(number) * unit
    return CallHead(method, metadata, timeout_s, coding, failure=failure)


class HeadReader:
    """Reads the header blocks of one connection; the same bytes mean the same while its table stays.

    Args:
        limit: Most bytes of the headers of a call, 32 for each field included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decoder = HeaderDecoder(limit)
        self._known: dict[bytes, CallHead] = {}
        self._known_at = 0

    def read(self, block: bytes) -> CallHead | None:
        """Return what a block says; ``None`` if it is no request.

        Raises:
            BadBlock: It cannot be decoded.
        """
        decoder, known = self._decoder, self._known
        found = known.get(block)
        if found is not None and self._known_at == decoder.changes:
            return found
        before = decoder.changes
        found = head_of(decoder.decode(block), self._limit)
        if decoder.changes != self._known_at or len(known) >= _REMEMBERED:
            known.clear()
            self._known_at = decoder.changes
        # A block that changes the table does not mean the same a second time.
        if found is not None and before == decoder.changes and _size(found, block) <= _SHORT:
            known[block] = found
        return found


def _size(head: CallHead, block: bytes) -> int:
    fields = sum(len(name) + len(value) for name, value in head.metadata.items())
    return max(len(block), len(head.method) + fields)


class Intake(Protocol):
    """Takes the messages of a call that has several."""

    def message(self, data: bytes) -> None:
        """Take the next message."""
        ...

    def end(self) -> None:
        """The client sends no more."""
        ...

    def drained(self) -> None:
        """The answers that waited are on their way."""
        ...

    @property
    def full(self) -> bool:
        """Whether the client should wait before it sends more."""
        ...


class Http2Call:
    """One call; ``rpc.service.RpcCall`` for the service.

    Attributes:
        number: Its stream.
        body: Bytes of messages that are not complete yet.
        unread: Bytes that came and that the client was not yet allowed to send again.
        ended: Whether the client ended its side.
        window: Bytes of DATA the client still takes.
        waiting: Bytes that wait for a window.
        finish: The frame that ends the call, once it is known.
        opened: Whether the headers of the answer were sent.
        closed: Whether the call is over.
        expires: Loop time after which the missing rest of a message is not waited for.
        deadline: Loop time after which the client does not wait any more.
        intake: Takes the messages if there may be several.
        left: What waits, when it was last seen to change.
        stalls: Loop time after which a client that takes nothing of it is not waited for.
    """

    __slots__ = (
        "_connection", "body", "closed", "deadline", "ended", "expires", "finish", "gone", "head", "intake", "left",
        "message", "metadata", "method", "number", "on_gone", "opened", "stalls", "timeout_s", "unread", "waiting",
        "window",
    )  # fmt: skip

    def __init__(self, connection: Http2Connection, number: int, head: CallHead, window: int) -> None:
        self._connection = connection
        self.number = number
        self.head = head
        self.method = head.method
        self.metadata = head.metadata
        self.timeout_s = head.timeout_s
        self.message = b""
        self.gone = False
        self.on_gone: Callable[[], object] | None = None
        self.body: bytearray | None = None
        self.unread = 0
        self.ended = False
        self.window = window
        self.waiting: deque[memoryview] | None = None
        self.finish: bytes | None = None
        self.opened = False
        self.closed = False
        self.expires = 0.0
        self.deadline = float("inf")
        self.intake: Intake | None = None
        self.left = (0, 0)
        self.stalls = float("inf")

    def reply(self, message: bytes) -> None:
        """Answer a call that takes one message."""
        if not self.closed and self.finish is None:
            self._connection.answer(self, message)

    def send(self, message: bytes) -> None:
        """Send one of several messages."""
        if not self.closed and self.finish is None:
            self._connection.send(self, framed(message))

    def fail(self, status: Status, text: str) -> None:
        """End the call; ``OK`` after the messages of a stream."""
        if self.closed or self.finish is not None:
            return
        opened = self.opened or bool(self.waiting)
        self._connection.end(self, trailers(self.number, int(status), text, opened=opened))

    def refuse_http(self, status: int) -> None:
        """Answer what is no gRPC call."""
        if not self.closed:
            self._connection.end(self, http_answer(self.number, status))

    def give(self) -> None:
        """Let the client send more."""
        self._connection.give(self)

    def soon(self, work: Callable[[], object]) -> None:
        """Do something in the next turn of the loop."""
        self._connection.loop.call_soon(work)

    def seconds_left(self) -> float:
        """Return seconds until the client's deadline."""
        return self.deadline - self._connection.loop.time()

    def stalled(self, now: float, most_s: float) -> bool:
        """Say whether the client let an answer wait for a window for so long that nothing more is expected."""
        waiting = self.waiting
        left = (len(waiting), len(waiting[0])) if waiting else (0, 0)
        if left != self.left:
            self.left = left
            self.stalls = now + most_s if waiting else float("inf")
        return now > self.stalls

    def leave(self) -> None:
        """Note that the client went away."""
        self.closed = self.gone = True
        if self.on_gone is not None:
            self.on_gone()
            self.on_gone = None
