"""What one HTTP/2 connection sends of its answers, and when: as far as the client's windows allow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from modelworks.serving.rpc import frames
from modelworks.serving.rpc.calls import Http2Call


class Outflow:
    """The sending side of flow control (RFC 9113, 5.2).

    Attributes:
        window: Bytes of DATA the client takes on the connection.
        first_window: Bytes it takes on a new stream.
        frame_bytes: Longest frame it takes.

    Args:
        write: Puts bytes on the wire.
        over: Called when the end of a call was sent.
    """

    __slots__ = ("_over", "_write", "first_window", "frame_bytes", "window")

    def __init__(self, write: Callable[[bytes], None], over: Callable[[Http2Call], None]) -> None:
        self.window = self.first_window = frames.DEFAULT_WINDOW
        self.frame_bytes = frames.DEFAULT_FRAME
        self._write = write
        self._over = over

    def set_first_window(self, size: int, calls: list[Http2Call]) -> None:
        """Take a new size for new streams; those there are move by the difference, below zero if need be."""
        for call in calls:
            call.window += size - self.first_window
        self.first_window = size

    def answer(self, call: Http2Call, message: bytes) -> None:
        """Send the only message of a call and end it."""
        length = len(message) + 5
        if length <= self.frame_bytes and length <= call.window and length <= self.window and not call.opened:
            self.window -= length
            self._write(frames.whole_answer(call.number, message))
            self._over(call)
            return
        call.finish = frames.trailers(call.number, 0, "", opened=True)
        self.send(call, frames.framed(message))

    def send(self, call: Http2Call, data: bytes) -> None:
        """Send a framed message as the windows allow."""
        if call.waiting is None:
            call.waiting = deque()
        call.waiting.append(memoryview(data))
        self.pump(call)

    def end(self, call: Http2Call, finish: bytes) -> None:
        """End a call after what waits of it."""
        call.finish = finish
        self.pump(call)

    def pump(self, call: Http2Call) -> None:
        """Send what waits of a call as far as the windows allow."""
        waiting = call.waiting
        parts: list[bytes] = []
        while waiting and call.window > 0 and self.window > 0:
            if not call.opened:
                call.opened = True
                parts.append(frames.opening(call.number))
            data = waiting[0]
            size = min(len(data), self.frame_bytes, call.window, self.window)
            parts.append(frames.frame(frames.DATA, 0, call.number, data[:size]))
            call.window -= size
            self.window -= size
            if size < len(data):
                waiting[0] = data[size:]
            else:
                waiting.popleft()
        if not waiting and call.finish is not None:
            parts.append(call.finish)
        if parts:
            self._write(b"".join(parts))
        if not waiting:
            if call.finish is not None:
                self._over(call)
            elif call.intake is not None and parts:
                call.intake.drained()

    def pump_all(self, calls: list[Http2Call]) -> None:
        """Send what waits of every call."""
        for call in calls:
            if call.waiting and not call.closed:
                self.pump(call)
