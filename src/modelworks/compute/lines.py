"""Cuts a stream of bytes into lines, in time linear in the bytes."""

from __future__ import annotations


class LineBuffer:
    """Keeps the unfinished last line between reads."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; returns the lines they complete, without their ends."""
        first, *rest = data.split(b"\n")
        self._parts.append(first)
        if not rest:
            return []
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts = [rest[-1]]
        return lines
