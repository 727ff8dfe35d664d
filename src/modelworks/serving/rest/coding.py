"""Content codings of bodies: gzip and deflate both ways, bounded so that a small body cannot become a huge one."""

from __future__ import annotations

import asyncio
import zlib

from modelworks.serving.errors import BadRequest, RequestTooLarge, UnsupportedMedia

_MAX_RATIO = 200
_FREE_BYTES = 64 * 1024
COMPRESS_FROM = 8192
THREAD_FROM = 128 * 1024


def decompress(data: bytes, coding: str, limit: int) -> bytes:
    """Undo a content coding.

    Args:
        data: The body as it came.
        coding: Value of ``content-encoding``.
        limit: Most bytes of the result; it may also be at most 200 times the input (64 KiB are always allowed).

    Raises:
        UnsupportedMedia: A coding other than gzip, deflate or identity.
        BadRequest: The bytes are damaged or go on after their end.
        RequestTooLarge: The result is too large.
    """
    name = coding.strip().lower()
    if name in {"", "identity"}:
        return data
    if name not in {"gzip", "x-gzip", "deflate"}:
        raise UnsupportedMedia(
            f"The content coding '{coding[:40]}' is not taken; send gzip, deflate or none."
        )
    limit = min(limit, max(_FREE_BYTES, _MAX_RATIO * len(data)))
    # 32: gzip or zlib by their first bytes; clients that say deflate send zlib or, some, the raw stream.
    windows = (32 + zlib.MAX_WBITS,) if "gzip" in name else (32 + zlib.MAX_WBITS, -zlib.MAX_WBITS)
    for window in windows:
        decoder = zlib.decompressobj(window)
        try:
            result = decoder.decompress(data, limit + 1)
        except zlib.error:
            continue
        if len(result) > limit:
            raise RequestTooLarge(f"The body is larger than {limit} bytes when decompressed.")
        if not decoder.eof or decoder.unused_data:
            raise BadRequest("The compressed body is cut short or followed by other bytes.", code="MW1412")
        return result
    raise BadRequest(f"The body is not {name}.", code="MW1412")


def accepted(header: str | None) -> str | None:
    """Return the coding to compress an answer with, if the client takes one: gzip before deflate."""
    if not header:
        return None
    offered = {}
    for part in header.lower().split(","):
        name, _, quality = part.strip().partition(";")
        offered[name.strip()] = quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    for name in ("gzip", "deflate"):
        if offered.get(name, False):
            return name
    return None


def compress(data: bytes, coding: str) -> bytes:
    """Compress an answer quickly."""
    encoder = zlib.compressobj(1, zlib.DEFLATED, 31 if coding == "gzip" else zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


async def compress_aside(data: bytes, coding: str) -> bytes:
    """Compress a large answer in a thread, so that others are not kept waiting."""
    return await asyncio.to_thread(compress, data, coding)
