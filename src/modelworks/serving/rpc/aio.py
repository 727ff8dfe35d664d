"""Carrying calls with ``grpc.aio``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from modelworks.core.errors import MissingExtra, ModelworksError, UsageError
from modelworks.serving.rpc.messages import SERVICE, messages
from modelworks.serving.rpc.service import RpcService
from modelworks.serving.rpc.statuses import Status, status_of

STREAM = f"/{SERVICE}/ModelStreamInfer"
_STREAM_WINDOW = 64


class _AioCall:
    """A unary call of ``grpc.aio`` as the service sees it."""

    def __init__(self, method: str, message: bytes, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.method = method
        self.message = message
        self.metadata = _metadata(context)
        self.timeout_s: float | None = context.time_remaining()
        self.gone = False
        self.on_gone: Callable[[], object] | None = None
        self.outcome: asyncio.Future[bytes | tuple[Status, str]] = loop.create_future()

    def reply(self, message: bytes) -> None:
        if not self.outcome.done():
            self.outcome.set_result(message)

    def fail(self, status: Status, text: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result((status, text))


def _metadata(context: Any) -> Mapping[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


class AioCarrier:
    """A ``grpc.aio`` server in front of the service.

    Args:
        service: Answers the calls.
        max_message: Longest message, bytes.
        shared_port: Whether several processes listen on the port.
    """

    def __init__(self, service: RpcService, *, max_message: int, shared_port: bool = False) -> None:
        try:
            import grpc
            import grpc.aio
        except ImportError:
            raise MissingExtra.named("The gRPC door", "serve") from None
        self._grpc = grpc
        self._service = service
        self._codes = {code.value[0]: code for code in grpc.StatusCode}
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", max_message),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(shared_port)),
                ("grpc.http2.max_ping_strikes", 4),
                ("grpc.max_concurrent_streams", 1024),
                ("grpc.max_metadata_size", 16_384),
            )
        )
        self._server.add_generic_rpc_handlers((_Methods(self),))

    def listen(self, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
        """Bind; returns the port.

        Raises:
            UsageError: The port is taken.
        """
        address = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
        try:
            if certificate is not None and key is not None:
                credentials = self._grpc.ssl_server_credentials(
                    [(key.read_bytes(), certificate.read_bytes())]
                )
                bound = self._server.add_secure_port(address, credentials)
            else:
                bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise UsageError(
                f"gRPC port {port} of {host} cannot be opened.",
                code="MW1320",
                hint="mw serve --grpc-port NUMBER",
            )
        return int(bound)

    async def start(self) -> None:
        """Begin to take calls."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls and end those under way after ``grace_s``."""
        await self._server.stop(grace_s)

    def handler(self, method: str) -> Any:
        """Return how ``grpc.aio`` handles a method; messages stay bytes."""
        if method == STREAM:
            return self._grpc.stream_stream_rpc_method_handler(self._stream)

        async def unary(message: bytes, context: Any) -> bytes:
            loop = asyncio.get_running_loop()
            call = _AioCall(method, message, context, loop)
            self._service.handle(call)
            try:
                outcome = await call.outcome
            except asyncio.CancelledError:
                call.gone = True
                if call.on_gone is not None:
                    call.on_gone()
                raise
            if isinstance(outcome, bytes):
                return outcome
            await context.abort(self._codes[int(outcome[0])], outcome[1])
            raise AssertionError

        return self._grpc.unary_unary_rpc_method_handler(unary)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Answer a stream of inference requests as they are done; an error ends its request, not the stream."""
        kinds = messages()
        try:
            principal = self._service.admit(_metadata(context), "infer")
        except ModelworksError as error:
            await context.abort(self._codes[int(status_of(error))], f"{error.error_code}: {error.message}")
        answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        window = asyncio.Semaphore(_STREAM_WINDOW)

        def put(response: Any, error: Exception | None) -> None:
            window.release()
            message = kinds.ModelStreamInferResponse()
            if error is None:
                message.infer_response.CopyFrom(response)
            elif isinstance(error, ModelworksError):
                message.error_message = f"{error.error_code}: {error.message}"
            else:
                message.error_message = "MW5000: The server failed on this request."
            answers.put_nowait(message.SerializeToString())

        async def read() -> None:
            try:
                async for data in requests:
                    await window.acquire()
                    try:
                        request = kinds.ModelInferRequest.FromString(data)
                        self._service.infer(request, principal, context.time_remaining(), put)
                    except Exception as error:
                        put(None, error)
                for _ in range(_STREAM_WINDOW):
                    await window.acquire()
            finally:
                answers.put_nowait(None)

        reader = asyncio.ensure_future(read())
        try:
            while (answer := await answers.get()) is not None:
                yield answer
        finally:
            reader.cancel()


class _Methods:
    """Hands every method to the carrier, known or not: the service says what it does not know."""

    def __init__(self, carrier: AioCarrier) -> None:
        self._carrier = carrier

    def service(self, details: Any) -> Any:
        return self._carrier.handler(details.method)

    def service_name(self) -> str:
        return SERVICE
