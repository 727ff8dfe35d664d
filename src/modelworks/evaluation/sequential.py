"""Evidence that may be looked at after every row: betting on whether a candidate is worse than a champion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import UsageError
from modelworks.evaluation.multiplicity import ERROR_RATE
from modelworks.evaluation.predictions import Floats

STAKES = 8
"""Bettors that share the starting capital, each with its own stake; what suits the data best comes to dominate."""

METHOD = "e-process"


@dataclass(frozen=True, kw_only=True)
class SequentialTest:
    """A test of ``candidate is worse than the champion by more than the margin``, valid at any stopping time.

    Each row brings ``x``, the candidate's score less the champion's, between -1 and 1: for classification 1 if only the
    candidate is right, -1 if only the champion is, 0 if they agree (which needs no label). Against the claim
    ``mean(x) <= -margin`` a gambler's capital grows by ``1 + stake (x + margin)`` and is a supermartingale while
    the claim holds, so it reaches ``1 / error`` with probability ``error`` at most, however often it is looked at
    (Ville; Waudby-Smith and Ramdas, JRSS B 86, 2024). A second gambler bets that the candidate is worse.

    Attributes:
        margin: How much worse still counts as not worse, in (0, 1).
        error: Chance of a wrong acceptance over all looks, and of a wrong rejection.
        n: Rows seen.
        total: Sum of ``x`` over them.
        capital: Log capital of each stake for ``not worse``.
        against: Log capital of each stake for ``worse``.
        decision: ``accepted``, ``rejected`` or ``undecided``; once taken it stays.
    """

    margin: float
    error: float = ERROR_RATE
    n: int = 0
    total: float = 0.0
    capital: tuple[float, ...] = (0.0,) * STAKES
    against: tuple[float, ...] = (0.0,) * STAKES
    decision: str = "undecided"

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1 or not 0 < self.error < 1:
            raise UsageError(
                f"Margin {self.margin:g} and error {self.error:g} must lie between 0 and 1.", code="MW1392"
            )

    def after(self, differences: npt.NDArray[Any]) -> SequentialTest:
        """Return the test after more rows, in the order in which they came.

        Raises:
            UsageError: A difference is outside -1 to 1, or not a number.
        """
        x = np.asarray(differences, dtype=np.float64)
        if not np.all(np.abs(x) <= 1):
            raise UsageError("Differences of scores must lie between -1 and 1.", code="MW1393")
        if not len(x):
            return self
        gain = _grown(self.capital, (x + self.margin), 1 / (1 - self.margin))
        loss = _grown(self.against, -(x + self.margin), 1 / (1 + self.margin))
        decision = self.decision
        if decision == "undecided":
            accepted, rejected = _first(_evidence(gain), self.error), _first(_evidence(loss), self.error)
            if accepted < rejected:
                decision = "accepted"
            elif rejected < accepted:
                decision = "rejected"
        return SequentialTest(
            margin=self.margin,
            error=self.error,
            n=self.n + len(x),
            total=self.total + float(x.sum()),
            capital=tuple(gain[:, -1].tolist()),
            against=tuple(loss[:, -1].tolist()),
            decision=decision,
        )

    @property
    def e_value(self) -> float:
        """Evidence that the candidate is not worse; above ``1 / error`` it is accepted."""
        return float(np.exp(min(700.0, float(_evidence(np.array(self.capital)[:, None])[0]))))

    @property
    def e_value_against(self) -> float:
        """Evidence that the candidate is worse by more than the margin."""
        return float(np.exp(min(700.0, float(_evidence(np.array(self.against)[:, None])[0]))))

    def to_json(self) -> dict[str, Any]:
        """Return the whole state as plain data; ``judge`` takes it as ``champion``."""
        return {
            "method": METHOD,
            "margin": self.margin,
            "error": self.error,
            "n": self.n,
            "total": self.total,
            "difference": self.total / self.n if self.n else 0.0,
            "e_value": self.e_value,
            "e_value_against": self.e_value_against,
            "capital": list(self.capital),
            "against": list(self.against),
            "decision": self.decision,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> SequentialTest:
        """Rebuild a test that was written down, to go on with it."""
        return SequentialTest(
            margin=float(data["margin"]),
            error=float(data["error"]),
            n=int(data["n"]),
            total=float(data["total"]),
            capital=tuple(float(value) for value in data["capital"]),
            against=tuple(float(value) for value in data["against"]),
            decision=str(data["decision"]),
        )


def _grown(capital: tuple[float, ...], bets: Floats, limit: float) -> Floats:
    """Return the log capital of each stake after each bet, [stakes, rows]; stakes stay below ``limit``."""
    stakes = limit * np.geomspace(0.01, 0.9, STAKES)
    return np.asarray(np.array(capital)[:, None] + np.cumsum(np.log1p(stakes[:, None] * bets), axis=1))


def _evidence(capital: Floats) -> Floats:
    """Return the log of the mean capital over the stakes, per row."""
    highest = capital.max(axis=0)
    return np.asarray(highest + np.log(np.exp(capital - highest).mean(axis=0)))


def _first(evidence: Floats, error: float) -> float:
    """Return the first row at which the evidence reaches ``1 / error``, or infinity."""
    reached = np.flatnonzero(evidence >= -math.log(error))
    return float(reached[0]) if len(reached) else math.inf
