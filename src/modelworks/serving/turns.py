"""Taking turns: works that need the process to themselves, and works that may go on beside each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Whoever measures is alone; one that waits to be alone goes before those that come after it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._beside = 0
        self._alone = False
        self._waiting = 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else is at work, and keep all others waiting."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._alone and not self._beside)
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Wait until nobody is alone or waits to be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._beside += 1
        try:
            yield
        finally:
            with self._changed:
                self._beside -= 1
                self._changed.notify_all()
