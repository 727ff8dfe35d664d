"""One HTTP/1.1 connection over an asyncio transport: framing, keep-alive, pipelining, back-pressure, every limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, cast

from modelworks.serving.rest.chunks import ChunkDecoder
from modelworks.serving.rest.heads import BadHead
from modelworks.serving.rest.message import Head, Response, opening
from modelworks.serving.seats import Full, Seat

if TYPE_CHECKING:
    from modelworks.serving.rest.carrier import HttpServer

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIPELINED_BYTES = 256 * 1024
_DISCARDED_BYTES = 16 * 2**20
_LINGER_S = 2.0
_TURNED_AWAY = 64
"""Clients without a seat that are told why at one time; others are only cut off."""
_NEVER = float("inf")
_CR = 13


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
        "_seat",
        "_server",
        "_transport",
        "_write_paused",
        "expires",
        "peer",
    )

    def __init__(self, server: HttpServer, seat: Seat | None = None) -> None:
        self._server = server
        self._seat = seat
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
        if server.draining:
            self._turn_away(503, "the server is shutting down")
            return
        if self._seat is None:
            seat = server.seat(self.peer)
            if isinstance(seat, Full):
                self._turn_away(429 if seat.cause == "address" else 503, seat.text)
                return
            self._seat = seat
        server.connections.add(self)
        self.expires = monotonic() + server.limits.head_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._seat is not None:
            self._seat.leave()
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
        self.expires = monotonic() + self._server.limits.write_s

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
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end - 4 > server.limits.head_bytes:
            if len(data) > server.limits.head_bytes:
                raise BadHead(431, f"the head has more than {server.limits.head_bytes} bytes")
            self.expires = min(self.expires, monotonic() + server.limits.head_s)
            self._pending = data.lstrip(b"\r\n")
            return b""
        if data[0] == _CR and data.startswith(b"\r\n"):
            return data.lstrip(b"\r\n")
        head, length = server.heads.parse(data[:end])
        if length == 0:
            self._begin(head, b"")
            return data[end:]
        whole = end + length
        if end < whole <= len(data):
            if length > server.handler.body_limit(head) or length > server.limits.body_bytes:
                self._refuse_length(head)
            self._begin(head, data[end:whole])
            return data[whole:]
        self._await_body(head, length)
        return data[end:]

    def _refuse_length(self, head: Head) -> None:
        limit = min(self._server.handler.body_limit(head), self._server.limits.body_bytes)
        raise BadHead(413, f"the body has more than {limit} bytes")

    def _await_body(self, head: Head, length: int) -> None:
        """Decide on the head before the body is read, and make ready to receive it."""
        server = self._server
        if length > server.handler.body_limit(head) or length > server.limits.body_bytes:
            self._refuse_length(head)
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
        now = monotonic()
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
        now = monotonic()
        elapsed = now - self._received_since
        if elapsed < 10.0 or received / elapsed >= limits.body_rate:
            self.expires = now + limits.body_s

    def _begin(self, head: Head, body: bytes) -> None:
        self.expires = _NEVER
        exchange = HttpExchange(self, head, body, self.peer, monotonic())
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
        length = len(body)
        if head is not None and head.method == "HEAD":
            body = b""
        if response.id and not response.headers and not close:
            # Nearly every answer.
            transport.write(
                b"%b%d%bx-request-id: %b\r\n\r\n%b"
                % (opening(response.status, response.media), length, self._server.date, response.id, body)
            )
        else:
            more = b"x-request-id: %b\r\n" % response.id if response.id else b""
            more += b"".join([b"%b: %b\r\n" % header for header in response.headers])
            if close:
                more += b"connection: close\r\n"
            transport.write(
                b"%b%d%b%b\r\n%b"
                % (opening(response.status, response.media), length, self._server.date, more, body)
            )
        if close:
            self._end(transport)
        elif not self._write_paused:
            self.expires = self._server.idle_until

    def _end(self, transport: asyncio.Transport) -> None:
        """Close once the answer is written.

        A socket that is closed with unread bytes resets the connection, and the client may never see the answer:
        where bytes may still come, only our side is shut and what comes is discarded for a short while.
        """
        self._closing = True
        now = monotonic()
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

    def _turn_away(self, status: int, reason: str) -> None:
        """Tell a client that has no seat why, and end its connection soon: nobody counts it."""
        server = self._server
        if server.turned_away >= _TURNED_AWAY:
            self.abort()
            return
        server.turned_away += 1
        self._refuse(status, reason)

        def end() -> None:
            server.turned_away -= 1
            self.abort()

        server.loop.call_later(_LINGER_S, end)

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
