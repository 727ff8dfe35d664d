"""Parsing request heads strictly with llhttp, and remembering them: clients repeat the same head for ever."""

from __future__ import annotations

import httptools

from modelworks.serving.rest.message import Head

MAX_HEADERS = 100
_REMEMBERED = 4096
_SHORT = 1024
_LONG = 4096
"""Longest head that is remembered: strangers may send many different ones."""
_SINGLE = frozenset({"host", "content-length", "transfer-encoding", "authorization", "content-type"})


class BadHead(Exception):
    """A head that is not answered by the application.

    Attributes:
        status: 400, 431, 501, 505, ...
        reason: What is wrong.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class HeadParser:
    """Head bytes (up to and with the empty line) to ``Head`` and body length; equal heads give the same object.

    Only the value of one Content-Length line may differ between equal heads. The parser and everything derived
    from a head run once per distinct head. The memory is bounded and shared by all connections; a head that
    differs in any other byte, such as another token, is another entry.
    """

    def __init__(self) -> None:
        self._bare: dict[bytes, Head] = {}
        self._sized: dict[bytes, Head] = {}
        self._exact: dict[bytes, tuple[Head, int]] = {}

    def parse(self, data: bytes) -> tuple[Head, int]:
        """Return the parsed head and the length of the body: 0 if there is none, -1 if it is chunked.

        Raises:
            BadHead: It is malformed, ambiguous or of a kind that is not served.
        """
        found = self._exact.get(data)
        if found is not None:
            return found
        found = self._parse(data)
        if len(data) <= _SHORT:
            if len(self._exact) >= _REMEMBERED:
                self._exact.clear()
            self._exact[data] = found
        return found

    def _parse(self, data: bytes) -> tuple[Head, int]:
        start = data.find(b"\r\nContent-Length: ")
        if start < 0:
            start = data.find(b"\r\ncontent-length: ")
        if start < 0:
            head = self._bare.get(data)
            if head is not None:
                return head, -1 if head.chunked else 0
            head, length = parse_head(data)
            if length <= 0:
                # A length in another spelling is read again every time: it is not part of what is remembered.
                _remember(self._bare, data, head)
            return head, length
        end = data.find(b"\r\n", start + 2)
        key = data[:start] + data[end:]
        head = self._sized.get(key)
        digits = data[start + 18 : end]
        # What is not a plain number goes the long way and is refused there.
        if head is not None and len(digits) < 16 and digits.isdigit():
            return head, int(digits)
        head, length = parse_head(data)
        _remember(self._sized, key, head)
        return head, length


def _remember(known: dict[bytes, Head], key: bytes, head: Head) -> None:
    if len(key) > _LONG:
        return
    if len(known) >= _REMEMBERED:
        # The oldest quarter goes; heads in use come back at the cost of one parse.
        for old in list(known)[: _REMEMBERED // 4]:
            del known[old]
    known[key] = head


class _Collector:
    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.body = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, body: bytes) -> None:
        self.body = True


def parse_head(data: bytes) -> tuple[Head, int]:
    """Parse one head; see ``HeadParser.parse``."""
    # A bare CR or LF ends a line for some programs and not for others; that difference is request smuggling.
    if data.count(b"\r\n") != data.count(b"\n") or data.count(b"\r\n") != data.count(b"\r"):
        raise BadHead(400, "a line of the head ends in a bare CR or LF")
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise BadHead(400, "the head is not HTTP/1.1") from None
    if not collector.complete or collector.body:
        raise BadHead(400, "the head is not complete")
    method = parser.get_method().decode("ascii")
    if method == "CONNECT":
        raise BadHead(501, "CONNECT is not served")
    if not collector.target.startswith(b"/"):
        raise BadHead(400, "the request target must start with '/'")
    if len(collector.headers) > MAX_HEADERS:
        raise BadHead(431, f"more than {MAX_HEADERS} headers")
    version = parser.get_http_version()
    if version not in {"1.0", "1.1"}:
        raise BadHead(505, "HTTP/1.1 is served")
    headers = _headers(collector.headers)
    if version == "1.1" and "host" not in headers:
        raise BadHead(400, "the Host header is missing")
    length = _length(headers)
    if version == "1.0" and length < 0:
        raise BadHead(400, "HTTP/1.0 has no transfer codings")
    head = Head(
        method,
        collector.target.decode("latin-1"),
        headers,
        chunked=length < 0,
        keep_alive=_keep_alive(version, headers),
        expects="100-continue" in headers.get("expect", "").lower(),
    )
    return head, length


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            raise BadHead(400, f"the header '{name}' occurs twice")
        else:
            headers[name] = f"{headers[name]}, {value}"
    return headers


def _length(headers: dict[str, str]) -> int:
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if length is not None:
            raise BadHead(400, "Content-Length beside Transfer-Encoding")
        if coding.lower() != "chunked":
            raise BadHead(501, "only the transfer coding 'chunked' is served")
        return -1
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()) or len(length) > 15:
        raise BadHead(400, "Content-Length is not a number")
    return int(length)


def _keep_alive(version: str, headers: dict[str, str]) -> bool:
    connection = headers.get("connection", "").lower()
    if version == "1.0":
        return "keep-alive" in connection
    return "close" not in connection
