"""Many tests and many looks: Holm, Benjamini-Hochberg, and what each look at a sealed test set costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelworks.core.errors import UsageError

ERROR_RATE = 0.05
"""Chance that a sealed test set, over all looks ever taken at it, lets a model through that should not pass."""

LOOKS_BEFORE_ROTATION = 20
"""After so many looks a sealed test set has told too much; fresh rows should replace it."""


def tail_of_look(look: int) -> float:
    """Return the one-sided error that look number ``look`` may use.

    ``0.05 / (look (look + 1))``: 0.025 at the first look, which is the usual 95 % interval, then 0.0083, 0.0042, ...
    The shares of all looks add up to 0.05, so the union bound holds for any number of looks (alpha spending;
    Foster and Stine, JRSS B 70, 2008, for the idea of a budget that never runs out).

    Raises:
        UsageError: ``look`` is below one.
    """
    if look < 1:
        raise UsageError(f"Looks at a test set are counted from 1, got {look}.", code="MW1390")
    return ERROR_RATE / (look * (look + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (Scandinavian Journal of Statistics 6, 1979): family-wise error control."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]


def benjamini_hochberg(p_values: Sequence[float], tested: int | None = None) -> list[float]:
    """Return Benjamini and Hochberg's adjusted p-values (JRSS B 57, 1995): false discovery rate control.

    Args:
        p_values: The p-values at hand.
        tested: Size of the whole family if more hypotheses were open to the search; those left out count as 1.
    """
    family = max(len(p_values), tested or 0)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    lowest = 1.0
    for rank in range(len(order) - 1, -1, -1):
        lowest = min(lowest, p_values[order[rank]] * family / (rank + 1))
        adjusted[order[rank]] = lowest
    return [float(value) for value in adjusted]
