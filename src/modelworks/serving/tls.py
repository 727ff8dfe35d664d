"""TLS of both doors: its context, and a listener under which a client has a seat before it shakes hands."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from modelworks.core.errors import UsageError
from modelworks.serving.seats import Full, Seat, Seats

HANDSHAKE_S = 10.0
"""Seconds from the opening of a connection to the end of its handshake, however the bytes of it trickle in."""

_SHUTDOWN_S = 5.0
_AT_ONCE = 64
_PAUSE_S = 0.5
_NO_MORE_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_log = logging.getLogger("modelworks.serving")


def tls_context(certificate: Path, key: Path | None, protocol: str) -> ssl.SSLContext:
    """Return a context of TLS 1.2 or newer for one application protocol (``http/1.1`` or ``h2``).

    Raises:
        UsageError: The certificate or key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"The TLS certificate or key cannot be used: {error}."[:200], code="MW1319"
        ) from None
    context.set_alpn_protocols([protocol])
    return context


class TlsListener:
    """Accepts connections, seats them, shakes hands within a time limit, and only then hands them over.

    The listener of an event loop hands a client over after its handshake: until then nobody would count it.

    Args:
        loop: The event loop.
        listening: A listening socket.
        context: TLS context.
        seats: Where a handshake that failed or took too long is counted.
        seat: Seats the client of an address, or says why it cannot.
        connection: Makes the protocol of a seated client, which leaves the seat when the connection is lost.
        handshake_s: Seconds a handshake may take.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        context: ssl.SSLContext,
        *,
        seats: Seats,
        seat: Callable[[str], Seat | Full],
        connection: Callable[[Seat], asyncio.Protocol],
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        self._loop = loop
        self._socket = listening
        self._context = context
        self._seat = seat
        self._connection = connection
        self._seats = seats
        self._handshake_s = handshake_s
        self._greeting: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        listening.listen(1024)
        loop.add_reader(listening.fileno(), self._accept)

    def close(self) -> None:
        """Take no more connections and drop those that still shake hands."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for task in list(self._greeting):
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_MORE_FILES:
                    raise
                _log.warning("no connection is taken for a moment: %s", error.strerror)
                self._loop.remove_reader(self._socket.fileno())
                self._paused = self._loop.call_later(_PAUSE_S, self._resume)
                return
            seat = self._seat(str(address[0]))
            if isinstance(seat, Full):
                # Telling it why would cost the handshake that the limit is there to save.
                client.close()
                continue
            task = self._loop.create_task(self._greet(client, seat))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._socket.fileno(), self._accept)

    async def _greet(self, client: socket.socket, seat: Seat) -> None:
        try:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                lambda: self._connection(seat),
                client,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_s,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except (OSError, asyncio.CancelledError):
            # ssl.SSLError and a handshake that took too long are OSErrors too.
            self._seats.refused["handshake"] += 1
            seat.leave()
            client.close()
