"""Requests and responses of the HTTP door, independent of what carries them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

_LINES = {status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_openings: dict[tuple[int, bytes], bytes] = {}
_PREFIX = os.urandom(4).hex()
_numbers = itertools.count(1)
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/")


class Head:
    """A parsed request head. Heads of equal bytes share one object, and with it the plan made for them.

    Attributes:
        method: ``GET``, ``POST``, ...
        path: Path without the query, still percent-encoded.
        query: Text after ``?``.
        headers: Lower-case name -> value; repeated headers are joined with ``, ``.
        chunked: Whether the body comes in chunks instead of with its length.
        keep_alive: Whether the client wants to keep the connection.
        expects: Whether the client waits for ``100 Continue``.
        plan: What the application decided about such a head (see ``rest.application``).
        generation: The application's generation the plan belongs to.
        memo: What a handler worked out from the headers alone.
    """

    __slots__ = (
        "chunked",
        "expects",
        "generation",
        "headers",
        "keep_alive",
        "memo",
        "method",
        "path",
        "plan",
        "query",
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        *,
        chunked: bool = False,
        keep_alive: bool = True,
        expects: bool = False,
    ) -> None:
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.expects = expects
        self.plan: Any = None
        self.generation = -1
        self.memo: Any = None

    def segments(self) -> tuple[str, ...]:
        """Return the decoded segments of the path."""
        return tuple(unquote(part) for part in self.path.split("/")[1:])


class Response:
    """An answer: status, body and extra headers (``content-length`` and ``date`` are added by the carrier).

    ``id`` is the request's id, sent as ``x-request-id`` unless it is empty.
    """

    __slots__ = ("body", "headers", "id", "media", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        *,
        media: bytes = b"application/json",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.status = status
        self.body = body
        self.media = media
        self.headers = headers
        self.id = b""


class Exchange(Protocol):
    """One request and the way to answer it.

    Attributes:
        head: The request's head.
        body: Its whole body, still compressed if the client compressed it.
        peer: Address of the client.
        gone: Whether the client went away; answering is harmless then.
        on_gone: Called when the client goes away before the answer.
        started: ``time.monotonic()`` at which the head was complete.
    """

    head: Head
    body: bytes
    peer: str
    gone: bool
    on_gone: Callable[[], object] | None
    started: float

    def reply(self, response: Response) -> None:
        """Send the answer; only the first call counts."""
        ...


def opening(status: int, media: bytes) -> bytes:
    """Return an answer's first bytes, up to where the length of its body goes."""
    found = _openings.get((status, media))
    if found is None:
        line = _LINES.get(status) or b"HTTP/1.1 %d Unknown" % status
        found = _openings[status, media] = b"%b\r\ncontent-type: %b\r\ncontent-length: " % (line, media)
    return found


def sent_id(head: Head) -> str | None:
    """Return the client's ``x-request-id`` if it is short and plain."""
    sent = head.headers.get("x-request-id")
    return sent if sent and len(sent) <= 100 and _ID_CHARACTERS.issuperset(sent) else None


def new_id() -> str:
    """Return an id no other request of this server has."""
    return f"{_PREFIX}-{next(_numbers)}"


def request_id(head: Head) -> str:
    """Return the request's id: the client's, or a new one."""
    return sent_id(head) or new_id()
