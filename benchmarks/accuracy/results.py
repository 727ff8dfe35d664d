"""The result lines read back: the newest per (method, table, fold), failures as the constant predictor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.accuracy.suite import LOCK, SUITE

RESULTS = Path(__file__).resolve().parent / "results"
SOLVED = 0.002
"""Losses below this share of the constant predictor's count as equal: the table is solved."""


@cache
def lock() -> dict[str, Any]:
    """Return ``tables.json``: kind, rows, classes and constant losses of every table."""
    content: dict[str, Any] = json.loads(LOCK.read_text())
    return content


@dataclass(frozen=True)
class Result:
    """One fold of one method on one table."""

    table: str
    fold: int
    line: dict[str, Any]

    @property
    def failed(self) -> bool:
        return "error" in self.line

    @property
    def constant(self) -> float:
        return float(lock()[self.table]["constant_loss"][self.fold])

    @property
    def loss(self) -> float:
        """Return the test loss; a failure has the constant predictor's."""
        return self.constant if self.failed else float(self.line["loss"])

    @property
    def floored(self) -> float:
        """Return the loss raised to ``SOLVED`` of the constant predictor's, for ratios."""
        return max(self.loss, SOLVED * self.constant)

    def value(self, key: str) -> float | None:
        """Return a measured number, or None where the run failed or has none."""
        number = self.line.get(key)
        return None if number is None else float(number)


Results = dict[tuple[str, int], Result]


def load(method: str, *, oldest: bool = False) -> Results:
    """Return the newest (or oldest) result of every (table, fold) of one method."""
    found: Results = {}
    for text in (RESULTS / f"{method}.jsonl").read_text().splitlines():
        line = json.loads(text)
        key = (line["table"], line["fold"])
        if line["table"] in lock() and not (oldest and key in found):
            found[key] = Result(*key, line)
    return found


def methods() -> list[str]:
    """Return the names of every method that has results."""
    return sorted(path.stem for path in RESULTS.glob("*.jsonl"))


def ordered(tables: set[str]) -> list[str]:
    """Return table names in the order of the suite, smallest first."""
    return [spec.name for spec in SUITE if spec.name in tables]
