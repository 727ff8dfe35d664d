"""One HTTP/2 connection of gRPC clients over an asyncio transport: frames, flow control, and every limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from modelworks.serving.rpc import frames
from modelworks.serving.rpc.calls import HeadReader, Http2Call
from modelworks.serving.rpc.frames import Code, ConnectionBroken
from modelworks.serving.rpc.hpack import BadBlock
from modelworks.serving.rpc.inflow import Inflow
from modelworks.serving.rpc.limits import BLOCK_BYTES, FRAME_BYTES
from modelworks.serving.rpc.outflow import Outflow
from modelworks.serving.rpc.statuses import Status
from modelworks.serving.seats import Full, Seat

if TYPE_CHECKING:
    from modelworks.serving.rpc.carrier import RpcCarrier

_LINGER_S = 1.0
_LATE_BYTES = 256
_CALL_FORGIVES = 50
"""A client needs a few frames of the connection's own, and cancels now and then, for each call that ends."""
_NEVER = float("inf")


class Http2Connection(asyncio.Protocol):
    """One connection.

    Args:
        carrier: What all connections share.
        seat: Its place; without one it takes one when it is made.
    """

    __slots__ = (
        "_block", "_block_flags", "_block_stream", "_carrier", "_closing", "_greeted", "_idle_frames",
        "_inflow", "_last", "_outflow", "_pending", "_reader", "_seat", "_settled", "_transport",
        "_write_paused", "answer", "calls", "end", "expires", "give", "loop", "send",
    )  # fmt: skip

    def __init__(self, carrier: RpcCarrier, seat: Seat | None = None) -> None:
        self._carrier = carrier
        self._seat = seat
        self.loop = carrier.loop
        self._transport: asyncio.Transport | None = None
        self._reader = HeadReader(carrier.limits.metadata_bytes)
        self._pending = b""
        self._greeted = self._settled = False
        self._block: bytearray | None = None
        self._block_stream = self._block_flags = 0
        self._last = 0
        self._inflow = Inflow(carrier, self._write)
        self._outflow = Outflow(self._write, self._over)
        self.answer, self.send, self.end = self._outflow.answer, self._outflow.send, self._outflow.end
        self.give = self._inflow.give
        self._idle_frames = 0
        self._closing = False
        self._write_paused = False
        self.calls: dict[int, Http2Call] = {}
        self.expires = _NEVER

    # -- transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        carrier = self._carrier
        if carrier.draining:
            self._turn_away("the server is shutting down")
            return
        if self._seat is None:
            peer = transport.get_extra_info("peername")
            seat = carrier.seat(str(peer[0]) if isinstance(peer, tuple) else "")
            if isinstance(seat, Full):
                self._turn_away(seat.text)
                return
            self._seat = seat
        carrier.connections.add(self)
        limits = carrier.limits
        self.expires = carrier.loop.time() + limits.greeting_s
        self._transport.write(
            frames.settings(
                {
                    frames.MAX_CONCURRENT: limits.streams,
                    frames.INITIAL_WINDOW: limits.window_bytes,
                    frames.MAX_FRAME: FRAME_BYTES,
                    frames.MAX_HEADER_LIST: limits.metadata_bytes,
                }
            )
            + frames.window_update(0, 4 * limits.window_bytes - frames.DEFAULT_WINDOW)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._carrier.connections.discard(self)
        if self._seat is not None:
            self._seat.leave()
        self._transport = None
        self._closing = True
        self.expires = _NEVER
        for call in list(self.calls.values()):
            self._forget(call)
            call.leave()

    def _turn_away(self, reason: str) -> None:
        """Tell a client that has no seat why, and close."""
        assert self._transport is not None
        self._closing = True
        payload = bytes(4) + int(Code.ENHANCE_YOUR_CALM).to_bytes(4, "big") + reason.encode()
        # Without SETTINGS before it: a client that got these takes the connection for good and tries again at once.
        self._transport.write(frames.frame(frames.GOAWAY, 0, 0, payload))
        self._transport.close()

    def pause_writing(self) -> None:
        # What is not read cannot be answered: the client has to take its answers first.
        self._write_paused = True
        self.expires = self._carrier.loop.time() + self._carrier.limits.write_s
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._note_idle()
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()

    # -- reading -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._pending:
            data = self._pending + data
        try:
            at = 0 if self._greeted else self._greet(data)
            size = len(data)
            unpack = frames.HEAD.unpack_from
            while size - at >= frames.HEAD_BYTES and not self._closing:
                high, low, kind, flags, stream = unpack(data, at)
                start = at + frames.HEAD_BYTES
                end = start + (high << 16 | low)
                if end - start > FRAME_BYTES:
                    raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "a frame is larger than was agreed")
                if end > size:
                    break
                self._frame(kind, flags, stream & frames.LARGEST_WINDOW, data, start, end)
                at = end
            self._pending = data[at:] if at < size else b""
        except ConnectionBroken as error:
            self._break(error.code, error.reason)
        except BadBlock as error:
            self._break(Code.COMPRESSION_ERROR, str(error))

    def _greet(self, data: bytes) -> int:
        length = len(frames.PREFACE)
        if data[:length] != frames.PREFACE[: len(data)]:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "this is not HTTP/2")
        if len(data) < length:
            return 0
        self._greeted = True
        return length

    def _frame(self, kind: int, flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream != self._block_stream):
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == frames.DATA:
            call = self.calls.get(stream)
            if call is None and (not stream or stream > self._last):
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "data of a call that never began")
            if call is not None and start < end:
                self._forgive(1)
            elif end - start < _LATE_BYTES:
                # What was on its way when a call was answered early comes in larger frames.
                self._count_idle(1)
            self._inflow.take(call, flags, data, start, end)
            return
        if kind == frames.HEADERS:
            self._headers(flags, stream, data[start:end])
            return
        if not self._settled and kind != frames.SETTINGS:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self._count_idle(1)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, flags, stream, data[start:end])

    def _forgive(self, frames_: int) -> None:
        """Count something that furthers a call: it makes up for some frames, and not for any number of them."""
        if self._idle_frames:
            self._idle_frames = max(0, self._idle_frames - frames_)

    def _count_idle(self, frames_: int) -> None:
        self._idle_frames += frames_
        if self._idle_frames > self._carrier.limits.idle_frames:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, "too many frames further no call")

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not self._settled:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if not stream & 1:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        payload = frames.unpadded(flags, payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "a priority is cut short")
            payload = payload[5:]
        if len(payload) > BLOCK_BYTES:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, "a header block is too long")
        if flags & frames.END_HEADERS:
            self._begin(flags, stream, payload)
        else:
            self._block, self._block_stream, self._block_flags = bytearray(payload), stream, flags

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a continuation of nothing")
        block += payload
        if len(block) > BLOCK_BYTES:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, "a header block is too long")
        if flags & frames.END_HEADERS:
            self._block = None
            self._begin(self._block_flags, stream, bytes(block))

    def _begin(self, flags: int, stream: int, block: bytes) -> None:
        """Begin a call, or end the client's side of one with trailers."""
        head = self._reader.read(block)
        known = self.calls.get(stream)
        if known is not None:
            if not flags & frames.END_STREAM or known.ended:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "headers within a call")
            self._inflow.client_ended(known)
            return
        if stream <= self._last:
            # The trailers of a call that was answered early; anything else breaks the rules.
            if not flags & frames.END_STREAM:
                raise ConnectionBroken(Code.STREAM_CLOSED, "headers on a stream that is over")
            return
        self._last = stream
        carrier = self._carrier
        if head is None:
            self._write(frames.frame(frames.RST_STREAM, 0, stream, _PROTOCOL_ERROR))
            return
        if carrier.draining or len(self.calls) >= carrier.limits.streams:
            self._write(frames.frame(frames.RST_STREAM, 0, stream, _REFUSED))
            return
        call = Http2Call(self, stream, head, self._outflow.first_window)
        self.calls[stream] = call
        if not self._write_paused:
            self.expires = _NEVER
        if flags & frames.END_STREAM:
            call.ended = True
        if head.http_status:
            call.refuse_http(head.http_status)
            return
        if head.failure is not None:
            call.fail(*head.failure)
            return
        now = carrier.loop.time()
        if head.timeout_s is not None:
            call.deadline = now + head.timeout_s
        call.expires = now + carrier.limits.body_s
        call.intake = carrier.intake(call)
        if call.ended and not call.closed:
            self._inflow.client_ended(call)

    # -- the connection's own frames ---------------------------------------------------------------------------

    def _reset(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4 or not stream or stream > self._last:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a reset of nothing")
        # Beginning calls only to reset them costs the server most: each counts as ten.
        self._count_idle(9)
        call = self.calls.get(stream)
        if call is not None:
            self._forget(call)
            call.leave()

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong size or stream")
        self._settled = True
        if flags & frames.ACK:
            return
        self._note_idle()
        for at in range(0, len(payload), 6):
            name, value = (
                int.from_bytes(payload[at : at + 2], "big"),
                int.from_bytes(payload[at + 2 : at + 6], "big"),
            )
            if name == frames.INITIAL_WINDOW:
                if value > frames.LARGEST_WINDOW:
                    raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "a window is too large")
                self._outflow.set_first_window(value, list(self.calls.values()))
            elif name == frames.MAX_FRAME:
                if not 16_384 <= value < 2**24:
                    raise ConnectionBroken(Code.PROTOCOL_ERROR, "a frame size out of bounds")
                self._outflow.frame_bytes = min(value, 2**20)
            elif name == frames.ENABLE_PUSH and value > 1:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        self._write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._outflow.pump_all(list(self.calls.values()))

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "a PING has eight bytes")
        if not flags & frames.ACK:
            self._write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _window_update(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "a WINDOW_UPDATE has four bytes")
        increment = int.from_bytes(payload, "big") & frames.LARGEST_WINDOW
        if stream:
            if stream > self._last:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "a window of a call that never began")
            call = self.calls.get(stream)
            if call is None:
                return
            call.window += increment
            if not increment or call.window > frames.LARGEST_WINDOW:
                self._write(frames.frame(frames.RST_STREAM, 0, stream, _FLOW_CONTROL))
                self._forget(call)
                call.leave()
            else:
                self._outflow.pump(call)
            return
        self._outflow.window += increment
        if not increment or self._outflow.window > frames.LARGEST_WINDOW:
            raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "a window of no or too many bytes")
        self._outflow.pump_all(list(self.calls.values()))

    def _push(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "a client does not push")

    def _over(self, call: Http2Call) -> None:
        """Forget a call whose end was sent."""
        self._forgive(_CALL_FORGIVES)
        if not call.ended:
            # The client still sends; it is told that nobody listens.
            self._write(frames.frame(frames.RST_STREAM, 0, call.number, _NO_ERROR))
        call.closed = True
        call.on_gone = None
        self._forget(call)

    def _forget(self, call: Http2Call) -> None:
        self.calls.pop(call.number, None)
        self._inflow.drop(call)
        if not self.calls:
            self._note_idle()
            if self._carrier.draining:
                self.close_if_idle()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    # -- ends --------------------------------------------------------------------------------------------------

    def _note_idle(self) -> None:
        if self._write_paused:
            return
        if self.calls:
            self.expires = _NEVER
        else:
            self.expires = self._carrier.loop.time() + self._carrier.limits.idle_s

    def look(self, now: float) -> None:
        """Once a second: end what overstayed a limit."""
        if self.expires < now:
            if self._write_paused:
                self.abort()
            else:
                self._break(Code.NO_ERROR, "nothing was asked")
            return
        for call in list(self.calls.values()):
            if call.stalled(now, self._carrier.limits.write_s):
                self._expire(call, Status.CANCELLED, "MW2310: The answer was not taken in time.")
            elif call.deadline < now:
                self._expire(call, Status.DEADLINE_EXCEEDED, "MW2313: The client's deadline passed.")
            elif call.expires < now and not call.ended and (call.body or call.intake is None):
                self._expire(
                    call, Status.CANCELLED, "MW2310: The rest of the message did not arrive in time."
                )

    def _expire(self, call: Http2Call, status: Status, text: str) -> None:
        on_gone: Callable[[], object] | None = call.on_gone
        call.fail(status, text)
        if on_gone is not None:
            on_gone()
        if not call.closed:
            self._write(frames.frame(frames.RST_STREAM, 0, call.number, _CANCEL))
            self._forget(call)
            call.closed = True

    def go_away(self) -> None:
        """Ask the client to open no more calls, and close once those under way are answered."""
        self._write(frames.frame(frames.GOAWAY, 0, 0, self._last.to_bytes(4, "big") + _NO_ERROR))
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close unless a call is under way."""
        if not self.calls and self._transport is not None:
            self._closing = True
            self._transport.close()

    def _break(self, code: Code, reason: str) -> None:
        """End the connection with its cause."""
        payload = self._last.to_bytes(4, "big") + int(code).to_bytes(4, "big") + reason.encode()
        if self._greeted:
            self._write(frames.frame(frames.GOAWAY, 0, 0, payload))
        self._closing = True
        self._pending = b""
        transport = self._transport
        if transport is None:
            return
        for call in list(self.calls.values()):
            self._forget(call)
            call.leave()
        # Closed with unread bytes, the socket would be reset and the client might never learn the cause: what still
        # comes is discarded for a moment.
        self._write_paused = True
        self.expires = self._carrier.loop.time() + _LINGER_S
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()


_NO_ERROR, _PROTOCOL_ERROR, _FLOW_CONTROL, _REFUSED, _CANCEL = (
    int(code).to_bytes(4, "big")
    for code in (
        Code.NO_ERROR,
        Code.PROTOCOL_ERROR,
        Code.FLOW_CONTROL_ERROR,
        Code.REFUSED_STREAM,
        Code.CANCEL,
    )
)
_HANDLERS: dict[int, Callable[[Http2Connection, int, int, bytes], None]] = {
    frames.RST_STREAM: Http2Connection._reset,
    frames.SETTINGS: Http2Connection._settings,
    frames.PUSH_PROMISE: Http2Connection._push,
    frames.PING: Http2Connection._ping,
    frames.WINDOW_UPDATE: Http2Connection._window_update,
    frames.CONTINUATION: Http2Connection._continuation,
}
