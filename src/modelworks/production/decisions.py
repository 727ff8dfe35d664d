"""Choices that depend on the moment (advice, champion, state of a remote source), made once per run and kept.

A run that was killed must make the same step calls again to find its finished work, although memory has grown and
champions have changed in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

SPACE = "decisions"


class Shelf(Protocol):
    """The part of the catalog's memory that decisions need."""

    def remember(self, space: str, key: str, value: Any) -> None:
        """Keep a value."""
        ...

    def recall(self, space: str) -> dict[str, Any]:
        """Return all values of a space."""
        ...


class Decisions:
    """Decisions of one run.

    Args:
        shelf: Where they are kept.
        run: Run id.
    """

    def __init__(self, shelf: Shelf, run: str) -> None:
        self._shelf = shelf
        self._space = f"{SPACE}:{run}"[:50]
        self._made: dict[str, Any] = shelf.recall(self._space)

    def once(self, name: str, decide: Callable[[], Any], *, again: bool = False) -> Any:
        """Return what was decided under ``name``; decide and keep it durably if nothing was, or ``again``."""
        key = name[:200]
        if again or key not in self._made:
            self._made[key] = decide()
            self._shelf.remember(self._space, key, self._made[key])
        return self._made[key]
