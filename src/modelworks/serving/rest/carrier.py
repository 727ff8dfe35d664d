"""HTTP/1.1 over asyncio transports: framing, keep-alive, pipelining, back-pressure and every time and size limit."""

from __future__ import annotations

import asyncio
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol, cast

from modelworks.serving.rest.chunks import ChunkDecoder
from modelworks.serving.rest.heads import BadHead, HeadParser
from modelworks.serving.rest.message import Head, Response, status_line

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIPELINED_BYTES = 256 * 1024
_DISCARDED_BYTES = 16 * 2**20
_LINGER_S = 2.0
_NEVER = float("inf")


@dataclass(frozen=True, kw_only=True)
class CarrierLimits:
    """Limits of connections.

    Attributes:
        head_bytes: Longest request head.
        body_bytes: Longest body on the wire.
        bodies_bytes: Bytes of all bodies being received.
        connections: Open connections.
        head_s: Seconds from the first byte to the end of the head.
        body_s: Seconds a body may stall between two arrivals.
        body_rate: Least bytes a second of a body after its first ten seconds.
        idle_s: Seconds a kept connection may idle.
        write_s: Seconds a client may take nothing of its answer.
    """

    head_bytes: int = 16_384
    body_bytes: int = 64 * 2**20
    bodies_bytes: int = 512 * 2**20
    connections: int = 1024
    head_s: float = 10.0
    body_s: float = 15.0
    body_rate: float = 4096.0
    idle_s: float = 75.0
    write_s: float = 30.0


class Handler(Protocol):
    """What a carrier needs of the application."""

    def refuse(self, head: Head) -> Response | None:
        """Decide on the head alone, before the body is read; ``None`` lets the request in."""
        ...

    def body_limit(self, head: Head) -> int:
        """Return the longest body such a request may have."""
        ...

    def handle(self, exchange: HttpExchange) -> None:
        """Answer an exchange, now or later."""
        ...

    def malformed(self, status: int, reason: str) -> Response:
        """Return the answer to bytes that are no request."""
        ...


class HttpExchange:
    """One request on one connection; see ``message.Exchange``."""

    __slots__ = ("_connection", "answered", "body", "gone", "head", "on_gone", "peer", "started")

    def __init__(
        self, connection: HttpConnection, head: Head, body: bytes, peer: str, started: float
    ) -> None:
        self._connection = connection
        self.head = head
        self.body = body
        self.peer = peer
        self.gone = False
        self.on_gone: Callable[[], object] | None = None
        self.started = started
        self.answered = False

    def reply(self, response: Response) -> None:
        """Send the answer; only the first call counts."""
        if self.answered:
            return
        self.answered = True
        # Breaks the ring exchange - work - callback - exchange: nothing is left for the cyclic collector.
        self.on_gone = None
        if not self.gone:
            self._connection.answer(self, response)


class HttpServer:
    """What the connections of one listening socket share.

    Args:
        loop: The event loop.
        handler: The application.
        limits: Limits of connections.
    """

    def __init__(
        self, loop: AbstractEventLoop, handler: Handler, limits: CarrierLimits | None = None
    ) -> None:
        self.loop = loop
        self.handler = handler
        self.limits = limits or CarrierLimits()
        self.heads = HeadParser()
        self.connections: set[HttpConnection] = set()
        self.bodies_bytes = 0
        self.draining = False
        self.date = b""
        self._tick()

    def connection(self) -> HttpConnection:
        """Make the protocol of a new connection."""
        return HttpConnection(self)

    def _tick(self) -> None:
        """Once a second: the Date header, and an end to every connection that overstayed a limit."""
        self.date = b"\r\ndate: " + formatdate(time.time(), usegmt=True).encode() + b"\r\n"
        now = self.loop.time()
        for connection in list(self.connections):
            if connection.expires < now:
                connection.expire()
        self._ticker = self.loop.call_later(1.0, self._tick)

    def drain(self) -> None:
        """Close idle connections now and the others after their current answer."""
        self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()

    def close(self) -> None:
        """Drop every connection."""
        self._ticker.cancel()
        for connection in list(self.connections):
            connection.abort()


class HttpConnection(asyncio.Protocol):
    """One connection. Requests are answered one after the other, in order."""

    __slots__ = (
        "_body",
        "_chunks",
        "_closing",
        "_discarded",
        "_exchange",
        "_head",
        "_held",
        "_last",
        "_lingers",
        "_missing",
        "_paused_reading",
        "_pending",
        "_received_since",
        "_server",
        "_transport",
        "_write_paused",
        "expires",
        "peer",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._pending = b""
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._missing = 0
        self._held = 0
        self._received_since = 0.0
        self._chunks: ChunkDecoder | None = None
        self._exchange: HttpExchange | None = None
        self._paused_reading = False
        self._write_paused = False
        self._closing = False
        self._discarded = 0
        self._lingers = False
        self._last = False
        self.expires = _NEVER
        self.peer = ""

    # -- transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else "local"
        server = self._server
        if len(server.connections) >= server.limits.connections or server.draining:
            self._refuse(503, "too many connections")
            return
        server.connections.add(self)
        self.expires = server.loop.time() + server.limits.head_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._drop_body()
        self.expires = _NEVER
        exchange, self._exchange = self._exchange, None
        self._transport = None
        self._closing = True
        if exchange is not None and not exchange.answered:
            exchange.gone = True
            if exchange.on_gone is not None:
                exchange.on_gone()

    def eof_received(self) -> bool:
        """Say whether to keep the connection open for writing."""
        # A half-closed client still reads its answer; without a request there is nothing to say any more.
        self._last = True
        return self._exchange is not None

    def pause_writing(self) -> None:
        self._write_paused = True
        self.expires = self._server.loop.time() + self._server.limits.write_s

    def resume_writing(self) -> None:
        self._write_paused = False
        self._next()

    # -- reading -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._discarded += len(data)
            if self._discarded > _DISCARDED_BYTES:
                self.abort()
            return
        if self._exchange is not None or self._write_paused:
            self._pending = self._pending + data if self._pending else data
            if len(self._pending) > _PIPELINED_BYTES and not self._paused_reading and self._transport:
                self._paused_reading = True
                self._transport.pause_reading()
            return
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Take requests off ``data`` until one has to wait for its answer or more bytes are needed."""
        try:
            while data and self._exchange is None and not self._closing:
                if self._head is None:
                    data = self._read_head(data)
                elif self._chunks is not None:
                    data = self._read_chunks(data)
                else:
                    data = self._read_body(data)
        except BadHead as error:
            self._refuse(error.status, error.reason)
            return
        if data and not self._closing:
            self._pending = data

    def _read_head(self, data: bytes) -> bytes:
        if self._pending:
            data, self._pending = self._pending + data, b""
        server = self._server
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > server.limits.head_bytes:
            if len(data) > server.limits.head_bytes:
                raise BadHead(431, f"the head has more than {server.limits.head_bytes} bytes")
            self.expires = min(self.expires, server.loop.time() + server.limits.head_s)
            self._pending = data.lstrip(b"\r\n")
            return b""
        if data[:2] == b"\r\n":
            return data.lstrip(b"\r\n")
        end += 4
        head, length = server.heads.parse(data[:end])
        if length == 0:
            self._begin(head, b"")
            return data[end:]
        have = len(data) - end
        if 0 < length <= have:
            self._admit(head, length)
            self._begin(head, data[end : end + length])
            return data[end + length :]
        self._await_body(head, length)
        return data[end:]

    def _admit(self, head: Head, length: int) -> None:
        limit = min(self._server.handler.body_limit(head), self._server.limits.body_bytes)
        if length > limit:
            raise BadHead(413, f"the body has more than {limit} bytes")

    def _await_body(self, head: Head, length: int) -> None:
        """Decide on the head before the body is read, and make ready to receive it."""
        server = self._server
        self._admit(head, length)
        refusal = server.handler.refuse(head)
        if refusal is not None:
            self._lingers = True
            self._write(refusal, head, close=True)
            return
        if server.bodies_bytes + max(length, 0) > server.limits.bodies_bytes:
            raise BadHead(503, "too many bodies are being received")
        if head.expects and self._transport is not None:
            self._transport.write(_CONTINUE)
        self._head = head
        now = server.loop.time()
        self.expires = now + server.limits.body_s
        self._received_since = now
        if length < 0:
            self._chunks = ChunkDecoder(min(server.handler.body_limit(head), server.limits.body_bytes))
        else:
            self._missing = self._held = length
            server.bodies_bytes += length

    def _read_body(self, data: bytes) -> bytes:
        if len(data) < self._missing:
            self._body.append(data)
            self._missing -= len(data)
            self._extend_body_time(self._held - self._missing)
            return b""
        rest = data[self._missing :]
        self._body.append(data[: self._missing])
        body = b"".join(self._body)
        self._end_body(body)
        return rest

    def _read_chunks(self, data: bytes) -> bytes:
        chunks = self._chunks
        assert chunks is not None
        server = self._server
        chunks.feed(data)
        server.bodies_bytes += len(chunks.body) - self._held
        self._held = len(chunks.body)
        if server.bodies_bytes > server.limits.bodies_bytes:
            raise BadHead(503, "too many bodies are being received")
        if not chunks.done:
            self._extend_body_time(self._held)
            return b""
        self._end_body(bytes(chunks.body))
        return chunks.rest

    def _end_body(self, body: bytes) -> None:
        head = self._head
        assert head is not None
        self._drop_body()
        self._begin(head, body)

    def _drop_body(self) -> None:
        self._server.bodies_bytes -= self._held
        self._held = self._missing = 0
        self._head, self._chunks, self._body = None, None, []

    def _extend_body_time(self, received: int) -> None:
        """Give a body that arrives at a decent rate more time, and one that trickles none."""
        limits = self._server.limits
        now = self._server.loop.time()
        elapsed = now - self._received_since
        if elapsed < 10.0 or received / elapsed >= limits.body_rate:
            self.expires = now + limits.body_s

    def _begin(self, head: Head, body: bytes) -> None:
        self.expires = _NEVER
        exchange = HttpExchange(self, head, body, self.peer, self._server.loop.time())
        self._exchange = exchange
        self._server.handler.handle(exchange)

    # -- writing -----------------------------------------------------------------------------------------------

    def answer(self, exchange: HttpExchange, response: Response) -> None:
        """Send the answer of the current exchange and go on with the next request."""
        self._exchange = None
        head = exchange.head
        self._write(response, head, close=not head.keep_alive or self._last or self._server.draining)
        if self._pending or self._paused_reading:
            # Not from here: the reader may be up the stack.
            self._server.loop.call_soon(self._next)

    def _write(self, response: Response, head: Head | None, *, close: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        body = response.body
        more = b"x-request-id: %b\r\n" % response.id if response.id else b""
        if response.headers:
            more += b"".join(b"%b: %b\r\n" % header for header in response.headers)
        if close:
            more += b"connection: close\r\n"
        transport.write(
            b"%b\r\ncontent-type: %b\r\ncontent-length: %d%b%b\r\n%b"
            % (
                status_line(response.status),
                response.media,
                len(body),
                self._server.date,
                more,
                body if head is None or head.method != "HEAD" else b"",
            )
        )
        if close:
            self._end(transport)
        elif not self._write_paused:
            self.expires = self._server.loop.time() + self._server.limits.idle_s

    def _end(self, transport: asyncio.Transport) -> None:
        """Close once the answer is written.

        A socket that is closed with unread bytes resets the connection, and the client may never see the answer:
        where bytes may still come, only our side is shut and what comes is discarded for a short while.
        """
        self._closing = True
        now = self._server.loop.time()
        if self._exchange is None and self._lingers and transport.can_write_eof():
            self.expires = now + _LINGER_S
            transport.write_eof()
        else:
            self.expires = now + self._server.limits.write_s
            transport.close()

    def _refuse(self, status: int, reason_: str) -> None:
        """Answer bytes that cannot be understood, and end the connection: what follows has no known meaning."""
        self._pending = b""
        self._drop_body()
        self._lingers = True
        self._write(self._server.handler.malformed(status, reason_), None, close=True)

    def _next(self) -> None:
        if self._exchange is not None or self._write_paused or self._closing or self._transport is None:
            return
        if self._paused_reading:
            self._paused_reading = False
            self._transport.resume_reading()
        data, self._pending = self._pending, b""
        if data:
            self._read(data)

    # -- ends --------------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """End a connection that overstayed a limit; a request that is half received gets a 408."""
        if not self._closing and not self._write_paused and (self._head is not None or self._pending):
            self._refuse(408, "the request did not arrive in time")
        else:
            self.abort()

    def close_if_idle(self) -> None:
        """Close the connection unless a request is on it."""
        if (
            self._exchange is None
            and self._head is None
            and not self._closing
            and self._transport is not None
        ):
            self._closing = True
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        transport = self._transport
        if transport is not None:
            transport.abort()
