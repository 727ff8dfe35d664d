"""What the connections of an HTTP/1.1 listener share: limits, the handler, remembered heads, the clock."""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from modelworks.serving.rest.connection import HttpConnection, HttpExchange
from modelworks.serving.rest.heads import HeadParser
from modelworks.serving.rest.message import Head, Response
from modelworks.serving.seats import Full, Seat, Seats


@dataclass(frozen=True, kw_only=True)
class CarrierLimits:
    """Limits of connections.

    Attributes:
        head_bytes: Longest request head.
        body_bytes: Longest body on the wire.
        bodies_bytes: Bytes of all bodies being received.
        connections: Open connections.
        connections_per_address: Those of one address; 0 is no limit.
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
    connections_per_address: int = 256
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
        self.seats = Seats()
        self.turned_away = 0
        self.bodies_bytes = 0
        self.draining = False
        self.date = b""
        self.idle_until = 0.0
        self._tick()

    def connection(self, seat: Seat | None = None) -> HttpConnection:
        """Make the protocol of a new connection; without a seat it takes one when it is made."""
        return HttpConnection(self, seat)

    def seat(self, address: str) -> Seat | Full:
        """Seat the client of an address, or say why there is no seat."""
        limits = self.limits
        return self.seats.take(address, most=limits.connections, per_address=limits.connections_per_address)

    def _tick(self) -> None:
        """Once a second: the Date header, and an end to every connection that overstayed a limit."""
        self.date = b"\r\ndate: " + formatdate(time.time(), usegmt=True).encode() + b"\r\n"
        now = time.monotonic()
        # Renewed once a second, so a connection may idle up to a second longer.
        self.idle_until = now + 1.0 + self.limits.idle_s
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
