"""Carrying calls over an HTTP/2 of our own: listening, limits that span connections, ending."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelworks.core.errors import ModelworksError, UsageError
from modelworks.serving.access import Principal
from modelworks.serving.rest import coding
from modelworks.serving.rpc.calls import Http2Call, Intake
from modelworks.serving.rpc.connection import Http2Connection
from modelworks.serving.rpc.limits import RpcLimits
from modelworks.serving.rpc.messages import SERVICE, messages
from modelworks.serving.rpc.service import RpcService
from modelworks.serving.rpc.statuses import Status, status_of

STREAM = f"/{SERVICE}/ModelStreamInfer"
_STREAM_WINDOW = 64


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
        self.bodies_bytes = 0
        self.draining = False
        self.handle = service.handle
        self._shared_port = shared_port
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None
        self._listener: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None

    def listen(self, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
        """Bind; returns the port.

        Raises:
            UsageError: The port is taken.
        """
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._socket = socket.create_server(
                address[:2], family=family, backlog=1024, reuse_port=self._shared_port
            )
        except OSError as error:
            raise UsageError(
                f"gRPC port {port} of {host} cannot be opened: {error.strerror}.",
                code="MW1320",
                hint="mw serve --grpc-port NUMBER",
            ) from error
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls.load_cert_chain(certificate, key)
            self._tls.set_alpn_protocols(["h2"])
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Begin to take calls."""
        assert self._socket is not None
        self._listener = await self.loop.create_server(
            lambda: Http2Connection(self), sock=self._socket, ssl=self._tls
        )
        self._tick()

    def _tick(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.look(now)
        self._ticker = self.loop.call_later(1.0, self._tick)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls and end those under way after ``grace_s``."""
        self.draining = True
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
        if call.method != STREAM:
            return None
        try:
            principal = self.service.admit(call.metadata, "infer")
        except ModelworksError as error:
            call.fail(status_of(error), f"{error.error_code}: {error.message}")
            return None
        return InferStream(self.service, call, principal)

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
                call.fail(status_of(error), f"{error.error_code}: {error.message}")
            else:
                if not call.closed:
                    then(plain)

        if not aside or len(data) < coding.THREAD_FROM:
            go_on(lambda: coding.decompress(data, name, most))
            return
        future = self.loop.run_in_executor(None, coding.decompress, data, name, most)
        future.add_done_callback(lambda done: go_on(done.result))


class InferStream:
    """``ModelStreamInfer``: answers a stream of requests as they are done; an error ends its request, not the stream.

    Args:
        service: Answers.
        call: The stream.
        principal: Who asks.
    """

    def __init__(self, service: RpcService, call: Http2Call, principal: Principal) -> None:
        self._service = service
        self._call = call
        self._principal = principal
        self._kinds = messages()
        self._waiting: deque[bytes] = deque()
        self._under_way: dict[int, Callable[[], object]] = {}
        self._number = 0
        self._asking = 0
        self._ended = False
        call.on_gone = self._forget

    @property
    def full(self) -> bool:
        """Whether messages wait already."""
        return bool(self._waiting)

    def message(self, data: bytes) -> None:
        """Take the next request."""
        self._waiting.append(data)
        self._go_on()

    def end(self) -> None:
        """The client sends no more."""
        self._ended = True
        self._go_on()

    def drained(self) -> None:
        """The answers that waited are on their way."""
        self._go_on()

    def _go_on(self) -> None:
        call = self._call
        # A client that does not take its answers gets no new ones made.
        while self._waiting and self._asking < _STREAM_WINDOW and not call.waiting and not call.closed:
            self._ask(self._waiting.popleft())
        if call.closed:
            return
        if not self._waiting:
            call.give()
            if self._ended and not self._asking:
                call.fail(Status.OK, "")

    def _ask(self, data: bytes) -> None:
        self._number += 1
        self._asking += 1
        number = self._number
        left = None
        if self._call.timeout_s is not None:
            left = max(0.0, self._call.seconds_left())

        def put(response: Any, error: Exception | None) -> None:
            self._under_way.pop(number, None)
            self._asking -= 1
            self._put(response, error)

        try:
            request = self._service.parse(data, "ModelInferRequest")
            self._under_way[number] = self._service.infer(request, self._principal, left, put)
        except Exception as error:
            self._asking -= 1
            self._put(None, error)

    def _put(self, response: Any, error: Exception | None) -> None:
        message = self._kinds.ModelStreamInferResponse()
        if error is None:
            message.infer_response.CopyFrom(response)
        elif isinstance(error, ModelworksError):
            message.error_message = f"{error.error_code}: {error.message}"
        else:
            message.error_message = "MW5000: The server failed on this request."
        self._call.send(message.SerializeToString())
        self._call.soon(self._go_on)

    def _forget(self) -> None:
        for forget in list(self._under_way.values()):
            forget()
        self._under_way.clear()
        self._waiting.clear()
