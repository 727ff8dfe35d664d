"""Bringing bytes from elsewhere to a local file: any fsspec file system, and the web behind an address guard."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from modelworks.core.errors import DataError, LimitError, MissingExtra
from modelworks.data.options import ReadOptions

_BLOCK = 1 << 20
_TIMEOUT_S = 60
_REDIRECTS = 5
_EXTRAS = {"s3": "s3", "s3a": "s3"}
_OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory", "hdfs", "webhdfs"}
)


def fetch_url(url: str, options: ReadOptions, folder: Path) -> Path:
    """Copy what a URL names into ``folder`` and return the file.

    Raises:
        DataError: The address is refused, absent or unreachable.
        LimitError: It has more bytes than ``limits.file_bytes``.
        MissingExtra: The file system's library is not installed.
    """
    scheme = url.split("://", 1)[0].lower()
    place = folder / "source"
    if "::" in url or (scheme not in _OBJECT_STORES and scheme not in {"http", "https"}):
        raise DataError(
            f"Addresses of the kind '{scheme}://' are not read.",
            code="MW1140",
            where=hide_secrets(url),
            hint="give a local path, s3://, gs://, abfs:// or https://",
        )
    if scheme in {"http", "https"}:
        _fetch_web(url, options, place)
    else:
        _fetch_object(url, scheme, options, place)
    return place


def hide_secrets(url: str) -> str:
    """Return a URL without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _fetch_object(url: str, scheme: str, options: ReadOptions, place: Path) -> None:
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url, **options.storage)
    except ImportError:
        raise MissingExtra.named(f"Reading {scheme}://", _EXTRAS.get(scheme, scheme)) from None
    try:
        with system.open(path, "rb") as source:
            _copy(source, place, options, url)
    except FileNotFoundError:
        raise DataError("There is no such object.", code="MW1111", where=hide_secrets(url)) from None
    except PermissionError as error:
        raise DataError(
            f"Access was refused: {_line(error)}",
            code="MW1141",
            where=hide_secrets(url),
            hint="check the credentials",
        ) from None
    except OSError as error:
        raise DataError(
            f"The object cannot be read: {_line(error)}",
            code="MW1141",
            where=hide_secrets(url),
            hint="try again",
        ) from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _copy(source: Any, place: Path, options: ReadOptions, url: str) -> None:
    total = 0
    with place.open("wb") as sink:
        while block := source.read(_BLOCK):
            total += len(block)
            if total > options.limits.file_bytes:
                raise LimitError(
                    f"The source has more than {options.limits.file_bytes:,} bytes.",
                    code="MW2010",
                    where=hide_secrets(url),
                )
            sink.write(block)


def _fetch_web(url: str, options: ReadOptions, place: Path) -> None:
    for _ in range(_REDIRECTS):
        try:
            following = _fetch_once(url, options, place)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DataError(
                f"The address cannot be read: {_line(error)}", code="MW1141", where=hide_secrets(url)
            ) from error
        if following is None:
            return
        url = following
    raise DataError("Too many redirections.", code="MW1141", where=hide_secrets(url))


def _fetch_once(url: str, options: ReadOptions, place: Path) -> str | None:
    """Download a page to ``place``, or return the address it moved to."""
    connection, path = _connect(url)
    headers = {"User-Agent": "modelworks", "Accept-Encoding": "identity"}
    with closing(connection):
        connection.request("GET", path, headers=headers)
        with closing(connection.getresponse()) as answer:
            if answer.status in {301, 302, 303, 307, 308}:
                return urljoin(url, answer.headers.get("Location", ""))
            if answer.status != 200:
                raise DataError(
                    f"The server answered {answer.status} {answer.reason}.",
                    code="MW1141",
                    where=hide_secrets(url),
                )
            _copy(answer, place, options, url)
            expected = answer.headers.get("Content-Length")
    if expected is not None and int(expected) != place.stat().st_size:
        raise DataError("The download was cut off.", code="MW1141", where=hide_secrets(url), hint="try again")
    return None


def _connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    """Connect to a public address only; the address that was checked is the one connected to."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise DataError("The address is not a web address.", code="MW1140", where=hide_secrets(url))
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = public_address(parts.hostname, port, url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, port, timeout=_TIMEOUT_S)
    stream = socket.create_connection((address, port), timeout=_TIMEOUT_S)
    try:
        if parts.scheme == "https":
            stream = ssl.create_default_context().wrap_socket(stream, server_hostname=parts.hostname)
    except OSError:
        stream.close()
        raise
    connection.sock = stream
    return connection, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def public_address(host: str, port: int, url: str) -> str:
    """Return a public IP address of a host.

    Raises:
        DataError: The host is unknown, or any of its addresses is private, local or reserved.
    """
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise DataError(f"The host '{host}' is unknown.", code="MW1141", where=hide_secrets(url)) from error
    for text in found:
        address = ipaddress.ip_address(str(text).split("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        if not (mapped or address).is_global or address.is_multicast:
            raise DataError(
                f"The host '{host}' has an address inside a private network, which is not read.",
                code="MW1142",
                where=hide_secrets(url),
                hint="download the file and give its path",
            )
    return str(sorted(found)[0])
