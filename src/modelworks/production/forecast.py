"""How long and how dear: CPU-seconds of a fit foretold from the size of its table and from past tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelworks.production.memory import Facts, Lesson, distance

FIRST_GUESS = (0.0606, 0.287, 0.187, 0.244)
"""Scale and exponents of rows, features and outputs: least squares on the logarithm over the 220 fits of
``benchmarks/order200`` (recipe 6, a quiet machine), 2026-11-26."""

MOST_ROWS = 20_000
"""Above this many rows a fit does not get dearer: the race leaves the costly members out."""

PRIOR_WEIGHT = 1.0
PRIOR_SPREAD = 0.47
"""Standard deviation of the residual of ``FIRST_GUESS``."""

SHARED_SPREAD = 0.3
"""The part of the error that all fits of an order have in common: how fast and how busy the machine is. Machines differ
by more (LightGBM took 1.9 times the CPU-seconds on one of two): the first fits on a machine correct the rest."""

CERTAINTY = 1.28
"""Standard deviations to either side that hold four times out of five."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """CPU-seconds foretold.

    Attributes:
        cpu_s: Expected cost, the mean and not the median: costs add up.
        low, high: Ends of an interval that should hold four times out of five.
        basis: How many past tasks it rests on.
    """

    cpu_s: float
    low: float
    high: float
    basis: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def forecast_fit(facts: Facts, lessons: Sequence[Lesson], budget_s: float) -> Forecast:
    """Foretell the CPU-seconds of one fit.

    A first guess from the size of the table is corrected by how far it was off on past tasks, the nearer ones
    counting more (Nadaraya-Watson on the logarithm, shrunk towards no correction). The budget is a cap.

    Args:
        facts: Facts of the task.
        lessons: Past tasks.
        budget_s: CPU-seconds the fit may use.
    """
    expected = first_guess(facts)
    total, pull, spread = PRIOR_WEIGHT, 0.0, PRIOR_WEIGHT * PRIOR_SPREAD**2
    errors: list[tuple[float, float]] = []
    for lesson in lessons:
        gap = distance(facts, lesson.facts)
        if not math.isfinite(gap) or lesson.cpu_s <= 0:
            continue
        weight = math.exp(-0.5 * gap**2)
        error = math.log(lesson.cpu_s / first_guess(lesson.facts))
        errors.append((weight, error))
        total += weight
        pull += weight * error
    centre = pull / total
    spread += sum(weight * (error - centre) ** 2 for weight, error in errors)
    sigma = math.sqrt(spread / total)
    guess = expected * math.exp(centre)
    return Forecast(
        cpu_s=min(budget_s, guess * math.exp(min(0.5 * sigma, CERTAINTY) * sigma)),
        low=min(budget_s, guess * math.exp(-CERTAINTY * sigma)),
        high=min(budget_s, guess * math.exp(CERTAINTY * sigma)),
        basis=len(errors),
    )


def first_guess(facts: Facts) -> float:
    """Return the CPU-seconds of a fit as the measured power law of its size says."""
    scale, rows, features, outputs = FIRST_GUESS
    counted = min(facts.rows, MOST_ROWS)
    guess: float = scale * counted**rows * max(1, facts.features) ** features * facts.outputs**outputs
    return guess


def total_of(parts: Sequence[Forecast]) -> Forecast:
    """Return the forecast of several fits one after the other: errors of their own, and one they share."""
    middle = sum(part.cpu_s for part in parts)
    below = math.sqrt(sum((part.cpu_s - part.low) ** 2 for part in parts))
    above = math.sqrt(sum((part.high - part.cpu_s) ** 2 for part in parts))
    below = math.hypot(below, middle * (1 - math.exp(-CERTAINTY * SHARED_SPREAD)))
    above = math.hypot(above, middle * (math.exp(CERTAINTY * SHARED_SPREAD) - 1))
    return Forecast(
        cpu_s=middle,
        low=max(0.0, middle - below),
        high=middle + above,
        basis=min((part.basis for part in parts), default=0),
    )
