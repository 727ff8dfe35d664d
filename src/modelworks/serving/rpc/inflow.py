"""What one HTTP/2 connection receives: windows given back, frames put together to messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelworks.serving.rpc import frames
from modelworks.serving.rpc.calls import Http2Call
from modelworks.serving.rpc.frames import Code, ConnectionBroken
from modelworks.serving.rpc.statuses import Status

if TYPE_CHECKING:
    from modelworks.serving.rpc.carrier import RpcCarrier


class Inflow:
    """The receiving side of flow control, and the messages of calls.

    Args:
        carrier: What all connections share.
        write: Puts bytes on the wire.
    """

    __slots__ = ("_carrier", "_limits", "_unread", "_write")

    def __init__(self, carrier: RpcCarrier, write: Callable[[bytes], None]) -> None:
        self._carrier = carrier
        self._limits = carrier.limits
        self._write = write
        self._unread = 0

    def take(self, call: Http2Call | None, flags: int, data: bytes, start: int, end: int) -> None:
        """Take a DATA frame, ``data[start:end]``; ``call`` is ``None`` if it is over.

        Raises:
            ConnectionBroken: More was sent than was allowed.
        """
        limits = self._limits
        length = end - start
        self._unread += length
        if self._unread > 2 * limits.window_bytes:
            if self._unread > 4 * limits.window_bytes:
                raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "more was sent than the connection takes")
            self._write(frames.window_update(0, self._unread))
            self._unread = 0
        if call is None:
            return
        if call.ended:
            raise ConnectionBroken(Code.STREAM_CLOSED, "data after the end of a call")
        call.unread += length
        if call.unread > limits.window_bytes:
            raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "more was sent than the call takes")
        if flags & frames.PADDED:
            data = frames.unpadded(flags, data[start:end])
            start, end = 0, len(data)
        ended = flags & frames.END_STREAM
        # Nearly every call: one message, in one frame, which is the last.
        if (
            ended
            and call.body is None
            and call.intake is None
            and 5 <= end - start <= limits.message_bytes
            and not data[start]
            and int.from_bytes(data[start + 1 : start + 5], "big") == end - start - 5
        ):
            call.ended = True
            call.message = data[start + 5 : end]
            self._carrier.handle(call)
            return
        self._collect(call, data[start:end])
        if not call.closed:
            if ended:
                self.client_ended(call)
            else:
                self.give(call)

    def _collect(self, call: Http2Call, part: bytes) -> None:
        """Add to the messages that are not complete, and hand over those that are."""
        carrier = self._carrier
        body = call.body
        if body is None:
            if call.intake is None and not carrier.may_send(call):
                return
            body = call.body = bytearray()
        body += part
        carrier.bodies_bytes += len(part)
        call.expires = carrier.loop.time() + carrier.limits.body_s
        if carrier.bodies_bytes > carrier.limits.bodies_bytes:
            call.fail(Status.RESOURCE_EXHAUSTED, "MW2310: Too many messages are being received.")
            return
        while len(body) >= 5 and not call.closed:
            length = int.from_bytes(body[1:5], "big")
            if length > carrier.limits.message_bytes:
                text = (
                    f"MW2310: A message has {length} bytes; at most {carrier.limits.message_bytes} are taken."
                )
                call.fail(Status.RESOURCE_EXHAUSTED, text)
                return
            if len(body) < 5 + length:
                return
            if body[0] > 1:
                call.fail(Status.INTERNAL, "MW1402: The frame of a message is damaged.")
                return
            if call.intake is None:
                # One message: it is handed over when the client ends its side.
                if len(body) > 5 + length:
                    call.fail(Status.INTERNAL, "MW1402: The call has more than one message.")
                return
            message, compressed = bytes(memoryview(body)[5 : 5 + length]), body[0] == 1
            del body[: 5 + length]
            carrier.bodies_bytes -= 5 + length
            if compressed:
                carrier.unpack(call, message, call.intake.message, aside=False)
            else:
                call.intake.message(message)

    def give(self, call: Http2Call) -> None:
        """Let the client send more of a call whose messages are taken in."""
        limits = self._limits
        if call.unread > limits.window_bytes // 2 and not (call.intake is not None and call.intake.full):
            self._write(frames.window_update(call.number, call.unread))
            call.unread = 0

    def client_ended(self, call: Http2Call) -> None:
        """Hand over the message of a call whose client sends no more, or the end of its messages."""
        call.ended = True
        if call.closed or call.finish is not None:
            return
        body = call.body
        if call.intake is not None:
            if body:
                call.fail(Status.INTERNAL, "MW1402: The last message is cut short.")
            else:
                call.intake.end()
            return
        self.drop(call)
        if not body or len(body) < 5 or int.from_bytes(body[1:5], "big") != len(body) - 5:
            call.fail(Status.INTERNAL, "MW1402: The call has not exactly one message.")
            return
        message = bytes(memoryview(body)[5:])
        if not body[0]:
            call.message = message
            self._carrier.handle(call)
            return

        def handle(plain: bytes) -> None:
            call.message = plain
            self._carrier.handle(call)

        self._carrier.unpack(call, message, handle)

    def drop(self, call: Http2Call) -> None:
        """Forget the bytes of messages that are not complete."""
        if call.body is not None:
            self._carrier.bodies_bytes -= len(call.body)
            call.body = None
