"""What the harness asks of a method: import, fit, predict, serve one row, size on disk."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.measures import Fold


class Method(ABC):
    """One way to make a model of one table; a fresh object, in a fresh process, for every fold."""

    on_cpu_clock = False
    """True: the method limits itself by ``time.time``, which then counts CPU-seconds of this process."""

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}
        """What the method wants written beside its result (rounds, members, chosen model)."""

    libraries: tuple[str, ...] = ()
    """Every module that a fit and a prediction import."""

    def load_libraries(self) -> None:
        """Import everything a fit needs; its CPU-seconds are the import cost."""
        for name in self.libraries:
            importlib.import_module(name)

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that decide the result."""

    @abstractmethod
    def fit(self, fold: Fold, folder: Path) -> None:
        """Fit on the training part of ``fold`` alone; ``folder`` is empty and thrown away afterwards."""

    @abstractmethod
    def predict(self, frame: Any) -> np.ndarray:
        """Return probabilities ``[n, classes]`` or values ``[n]`` for a data frame of raw columns."""

    @abstractmethod
    def save(self, folder: Path) -> int:
        """Write what a server needs besides its libraries and return its bytes."""


def folder_bytes(folder: Path) -> int:
    """Return the bytes of every file below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
