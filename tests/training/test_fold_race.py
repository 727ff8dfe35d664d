"""Who begins the race of folds, whatever the CPU-seconds say."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from modelworks.core.budget import Budget
from modelworks.core.task import TaskKind
from modelworks.training.member import FoldFit
from modelworks.training.problem import Problem
from modelworks.training.race import RaceRules, race


@dataclass
class Clock:
    """CPU-seconds that only members spend."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Slow:
    """A member that predicts zero and takes ``cost`` CPU-seconds a fold."""

    name: str
    problem: Problem
    clock: Clock
    cost: float
    ran: list[int] = field(default_factory=list)

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        self.clock.now += self.cost
        self.ran.append(fold)
        return FoldFit(scores=np.zeros((len(self.problem.parts(fold)[1]), 1)), part=None)

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        return fits

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> None:
        return None


def begun(cost: float) -> list[str]:
    """Return who began a race that aims at 6 CPU-seconds, each fold taking ``cost``."""
    rows = 40
    problem = Problem(
        kind=TaskKind.BINARY,
        target=np.arange(rows) % 2,
        folds=(np.arange(rows) % 4 // 2).astype(np.int8),
        classes=2,
    )
    clock = Clock()
    members = [Slow(name, problem, clock, cost) for name in ("one", "two", "three")]
    result = race(
        [lambda member=member: member for member in members],
        problem,
        Budget(1000, cpu_time=clock),
        RaceRules(folds=(0, 1), spend_s=6.0),
    )
    return [runner.name for runner in result.runners]


def test_a_race_has_two_runners_even_if_the_first_was_slower_than_the_race_should_be() -> None:
    assert begun(cost=1.0) == ["one", "two", "three"]
    assert begun(cost=7.0) == ["one", "two"]
