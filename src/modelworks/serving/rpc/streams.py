"""Calls that take several messages: one after the other, no faster than the client takes its answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import ModelworksError
from modelworks.serving.rpc.messages import messages
from modelworks.serving.rpc.reflection import Reflection, reflection_messages
from modelworks.serving.rpc.statuses import Status

if TYPE_CHECKING:
    from modelworks.serving.rpc.calls import Http2Call
    from modelworks.serving.rpc.service import RpcService

_WINDOW = 64


class MessageStream:
    """The messages of a call as they come; an ``Intake``.

    Args:
        call: The call.
        ask: Takes a message and sends its answer, now or later; calls ``done`` then.
    """

    def __init__(self, call: Http2Call, ask: Callable[[bytes], None]) -> None:
        self._call = call
        self._ask = ask
        self._waiting: deque[bytes] = deque()
        self._asking = 0
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether messages wait already."""
        return bool(self._waiting)

    def message(self, data: bytes) -> None:
        """Take the next message."""
        self._waiting.append(data)
        self._go_on()

    def end(self) -> None:
        """The client sends no more."""
        self._ended = True
        self._go_on()

    def drained(self) -> None:
        """The answers that waited are on their way."""
        self._go_on()

    def done(self) -> None:
        """Note that a message was answered."""
        self._asking -= 1
        self._call.soon(self._go_on)

    def forget(self) -> None:
        """Take nothing more."""
        self._waiting.clear()

    def _go_on(self) -> None:
        call = self._call
        # A client that does not take its answers gets no new ones made.
        while self._waiting and self._asking < _WINDOW and not call.waiting and not call.closed:
            self._asking += 1
            self._ask(self._waiting.popleft())
        if call.closed:
            return
        if not self._waiting:
            call.give()
            if self._ended and not self._asking:
                call.fail(Status.OK, "")


class InferStream:
    """``ModelStreamInfer``: answers requests as they are done; an error ends its request, not the stream.

    Attributes:
        intake: Takes the messages.

    Args:
        service: Answers.
        call: The stream.
    """

    def __init__(self, service: RpcService, call: Http2Call) -> None:
        self.intake = MessageStream(call, self._ask)
        self._service = service
        self._call = call
        self._kinds = messages()
        self._under_way: dict[int, Callable[[], object]] = {}
        self._number = 0
        call.on_gone = self._forget

    def _ask(self, data: bytes) -> None:
        self._number += 1
        number = self._number
        call = self._call
        left = max(0.0, call.seconds_left()) if call.timeout_s is not None else None

        def put(response: Any, error: Exception | None) -> None:
            self._under_way.pop(number, None)
            self._put(response, error)
            self.intake.done()

        try:
            # Every request counts for the token's rate, and a token that was revoked meanwhile is refused.
            principal = self._service.admit(call.metadata, "infer")
            request = self._service.parse(data, self._kinds.ModelInferRequest)
            self._under_way[number] = self._service.infer(request, principal, left, put)
        except Exception as error:
            self._put(None, error)
            self.intake.done()

    def _put(self, response: Any, error: Exception | None) -> None:
        message = self._kinds.ModelStreamInferResponse()
        if error is None:
            message.infer_response.CopyFrom(response)
        elif isinstance(error, ModelworksError):
            message.error_message = f"{error.error_code}: {error.message}"
        else:
            message.error_message = "MW5000: The server failed on this request."
        self._call.send(message.SerializeToString())

    def _forget(self) -> None:
        for forget in list(self._under_way.values()):
            forget()
        self._under_way.clear()
        self.intake.forget()


def reflection_stream(reflection: Reflection, service: RpcService, call: Http2Call) -> MessageStream:
    """Answer ``ServerReflectionInfo``; a message that is none ends the stream."""
    kind = reflection_messages("v1").ServerReflectionRequest

    def ask(data: bytes) -> None:
        try:
            service.admit(call.metadata, "any")
            call.send(reflection.answer(service.parse(data, kind)))
        except Exception as error:
            service.fail(call, error)
        stream.done()

    stream = MessageStream(call, ask)
    return stream
