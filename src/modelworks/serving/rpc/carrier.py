"""Carrying calls over an HTTP/2 of our own: listening, limits that span connections, ending."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from modelworks.core.errors import ModelworksError
from modelworks.serving.errors import RequestTooLarge
from modelworks.serving.ports import bound
from modelworks.serving.rest import coding
from modelworks.serving.rpc.calls import Http2Call, Intake
from modelworks.serving.rpc.connection import Http2Connection
from modelworks.serving.rpc.limits import RpcLimits
from modelworks.serving.rpc.service import RpcService
from modelworks.serving.rpc.statuses import Status
from modelworks.serving.seats import Full, Seat, Seats
from modelworks.serving.tls import TlsListener, tls_context

_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


class RpcCarrier:
    """What the connections of the gRPC port share.

    Args:
        service: Answers the calls.
        loop: The event loop.
        limits: Limits of connections.
        shared_port: Whether several processes listen on the port.
    """

    def __init__(
        self,
        service: RpcService,
        loop: asyncio.AbstractEventLoop,
        limits: RpcLimits | None = None,
        *,
        shared_port: bool = False,
    ) -> None:
        self.service = service
        self.loop = loop
        self.limits = limits or RpcLimits()
        self.connections: set[Http2Connection] = set()
        self.seats = Seats()
        self.bodies_bytes = 0
        self.draining = False
        self.handle = service.handle
        self._shared_port = shared_port
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None
        self._listener: asyncio.Server | TlsListener | None = None
        self._ticker: asyncio.TimerHandle | None = None

    def listen(self, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
        """Bind; returns the port.

        Raises:
            UsageError: The port is taken.
        """
        self._socket = bound(host, port, shared=self._shared_port, option="--grpc-port")
        # A call may last: a peer that is gone without a word is found out by the system.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _ALIVE:
            self._socket.setsockopt(socket.IPPROTO_TCP, option, value)
        if certificate is not None:
            self._tls = tls_context(certificate, key, "h2")
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Begin to take calls."""
        assert self._socket is not None
        if self._tls is None:
            self._listener = await self.loop.create_server(
                lambda: Http2Connection(self), sock=self._socket, backlog=1024
            )
        else:
            self._listener = TlsListener(
                self.loop,
                self._socket,
                self._tls,
                seats=self.seats,
                seat=self.seat,
                connection=lambda seat: Http2Connection(self, seat),
            )
        self._tick()

    def seat(self, address: str) -> Seat | Full:
        """Seat the client of an address, or say why there is no seat."""
        limits = self.limits
        return self.seats.take(address, most=limits.connections, per_address=limits.connections_per_address)

    def _tick(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.look(now)
        self._ticker = self.loop.call_later(1.0, self._tick)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls and end those under way after ``grace_s``."""
        self.draining = True
        self.service.health.close()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.go_away()
        end = self.loop.time() + grace_s
        while self.connections and self.loop.time() < end:
            await asyncio.sleep(0.01)
        if self._ticker is not None:
            self._ticker.cancel()
        for connection in list(self.connections):
            connection.abort()

    def intake(self, call: Http2Call) -> Intake | None:
        """Return who takes the messages of a call if it may have several; ``None`` if it has one."""
        found = self.service.streams.get(call.method)
        if found is None:
            return None
        policy, opened = found
        try:
            self.service.check(call.metadata, policy)
        except ModelworksError as error:
            self.service.fail(call, error)
            return None
        return opened(call)

    def may_send(self, call: Http2Call) -> bool:
        """Say whether more than one frame of a message is taken; a stranger's call is answered at once."""
        policy = self.service.methods.get(call.method, "any")
        try:
            if policy == "open":
                raise RequestTooLarge("Such a message fits into one frame.")
            self.service.check(call.metadata, policy)
        except ModelworksError as error:
            self.service.fail(call, error)
            return False
        return True

    def unpack(
        self, call: Http2Call, data: bytes, then: Callable[[bytes], None], *, aside: bool = True
    ) -> None:
        """Decompress a message and go on with it; a large one in a thread, unless its order matters."""
        name = call.head.coding
        if name == "identity":
            call.fail(Status.INTERNAL, "MW1412: A compressed message without 'grpc-encoding'.")
            return
        most = self.limits.message_bytes

        def go_on(result: Callable[[], bytes]) -> None:
            try:
                plain = result()
            except ModelworksError as error:
                self.service.fail(call, error)
            else:
                if not call.closed:
                    then(plain)

        if not aside or len(data) < coding.THREAD_FROM:
            go_on(lambda: coding.decompress(data, name, most))
            return
        future = self.loop.run_in_executor(None, coding.decompress, data, name, most)
        future.add_done_callback(lambda done: go_on(done.result))
