"""The access log: one JSON line per answered request, written in batches by a thread."""

from __future__ import annotations

import sys
import threading
import time
from queue import SimpleQueue
from typing import TextIO

import msgspec

from modelworks.serving.rest.application import Call
from modelworks.serving.rest.message import Response

_ENCODE = msgspec.json.Encoder().encode
_MOST = 10_000


class AccessLogger:
    """Writes ``{"time", "id", "peer", "who", "method", "path", "status", "ms", "in", "out"}``; drops when behind.

    Args:
        errors_only: Log only statuses from 400.
        stream: Where lines go; standard error by default.
    """

    def __init__(self, *, errors_only: bool, stream: TextIO | None = None) -> None:
        self.dropped = 0
        self._from = 400 if errors_only else 0
        self._stream = stream or sys.stderr
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="serving-access-log", daemon=True)
        self._thread.start()

    def __call__(self, call: Call, response: Response) -> None:
        if response.status < self._from:
            return
        if self._lines.qsize() >= _MOST:
            self.dropped += 1
            return
        exchange = call.exchange
        self._lines.put(
            _ENCODE(
                {
                    "time": time.time(),
                    "id": call.id,
                    "peer": exchange.peer,
                    "who": call.principal.name,
                    "method": exchange.head.method,
                    "path": exchange.head.path[:300],
                    "status": response.status,
                    "ms": round((time.monotonic() - exchange.started) * 1e3, 3),
                    "in": len(exchange.body),
                    "out": len(response.body),
                }
            )
        )

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            lines = []
            while line is not None:
                lines.append(line)
                if self._lines.empty():
                    break
                line = self._lines.get()
            if lines:
                self._stream.write(b"\n".join([*lines, b""]).decode())
                self._stream.flush()
            if line is None:
                return

    def close(self) -> None:
        """Write what waits and stop."""
        self._lines.put(None)
        self._thread.join(5.0)
