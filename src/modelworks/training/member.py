"""The contract of a member: something that learns a problem fold by fold and scores the held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from modelworks.core.budget import Budget
from modelworks.training.problem import Floats


@dataclass(frozen=True)
class FoldFit:
    """What a member learned without one fold.

    Attributes:
        scores: Link-scale scores of the fold's rows, ``[rows in fold, outputs]``.
        part: What the member keeps of this fold.
    """

    scores: Floats
    part: Any


class Member(Protocol):
    """One member of the portfolio, bound to its problem and features."""

    @property
    def name(self) -> str:
        """Name in the portfolio and on the leaderboard."""
        ...

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Learn from the rows outside ``fold`` and score those inside.

        Raises:
            BudgetStopped: The budget ended before there was anything usable.
            Cancelled: The budget was cancelled.
        """
        ...

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Agree on what the folds learned (rounds, penalty) and score again by it."""
        ...

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> Any:
        """Return the model that scores new rows: the folds' mean, or one more fit on all rows."""
        ...
