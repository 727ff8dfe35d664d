"""The fold race: every member runs the first fold, the promising ones run the others, the budget is kept.

Dropping after the first folds follows Bergman et al. 2024, "Don't Waste Your Time: Early Stopping
Cross-Validation", in its forgiving form: a member stays unless the pool gives it next to no weight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped
from modelworks.training.member import FoldFit, Member
from modelworks.training.pool import pool_weights, pooled
from modelworks.training.problem import Floats, Problem, Rows


@dataclass(frozen=True, kw_only=True)
class RaceRules:
    """How the race is run.

    Attributes:
        folds: Folds to run, the racing fold first.
        race_rows: Rows the racing fold must hold before anybody is dropped.
        least_weight: Share of the pool's weight below which a member may be dropped after the racing fold.
        hopeless: Share below which a member is dropped in any case, if the racing fold holds ``sure_rows``.
        sure_rows: See ``hopeless``.
        spend_s: CPU-seconds the race aims at, though the hard budget may allow more.
        least_runners: Entrants that begin however much is spent: one alone is no race, and a busy machine, on which
            every CPU-second does less, would make another model.
    """

    folds: tuple[int, ...]
    race_rows: int = 300
    least_weight: float = 0.1
    hopeless: float = 0.02
    sure_rows: int = 1000
    spend_s: float = np.inf
    least_runners: int = 2


@dataclass
class Runner:
    """A member in the race and what came of it.

    Attributes:
        member: The member.
        fits: Fold -> what it learned.
        cpu_s: CPU-seconds it took.
        dropped: Why it left the race, or empty.
    """

    member: Member
    fits: dict[int, FoldFit] = field(default_factory=dict)
    cpu_s: float = 0.0
    dropped: str = ""

    @property
    def name(self) -> str:
        return self.member.name


@dataclass(frozen=True)
class RaceResult:
    """All runners, the folds that every survivor finished, and whether the budget ended the race."""

    runners: tuple[Runner, ...]
    folds: tuple[int, ...]
    stopped: str

    @property
    def finalists(self) -> list[Runner]:
        """The runners that finished the race."""
        return [runner for runner in self.runners if not runner.dropped]


def rows_of(problem: Problem, folds: Iterable[int]) -> Rows:
    """Return the rows of some folds, fold after fold."""
    return np.concatenate([problem.parts(fold)[1] for fold in folds])


def scores_of(runner: Runner, folds: Iterable[int]) -> Floats:
    """Return a runner's out-of-fold scores on ``rows_of(problem, folds)``."""
    return np.concatenate([runner.fits[fold].scores for fold in folds])


def race(
    entrants: Sequence[Callable[[], Member]], problem: Problem, budget: Budget, rules: RaceRules
) -> RaceResult:
    """Run the race.

    Args:
        entrants: Maker of each member, in the order they are tried.
        problem: What is learned.
        budget: Hard limit of CPU-seconds; when it ends the race is decided on what is finished.
        rules: Folds and dropping rules.

    Raises:
        BudgetStopped: The budget ended before any member finished a fold.
        Cancelled: The budget was cancelled.
    """
    first, rest = rules.folds[0], rules.folds[1:]
    runners: list[Runner] = []
    start = budget.spent_s
    try:
        for make in entrants:
            if len(runners) >= rules.least_runners and budget.spent_s - start > rules.spend_s:
                break
            budget.check()
            runner = Runner(make())
            _run_fold(runner, first, budget)
            runners.append(runner)
        _drop(runners, problem, first, rules, rules.spend_s - (budget.spent_s - start))
        _run_rest(runners, rest, budget)
        for runner in _running(runners):
            _settle(runner, budget)
        return RaceResult(tuple(runners), rules.folds, "")
    except BudgetStopped as stop:
        if not runners:
            raise
        return _decide(runners, rules.folds, budget.grace(), stop.message)


def _running(runners: Iterable[Runner]) -> list[Runner]:
    return [runner for runner in runners if not runner.dropped]


def _run_fold(runner: Runner, fold: int, budget: Budget) -> None:
    begin = time.process_time()
    try:
        runner.fits[fold] = runner.member.fit_fold(fold, budget)
    finally:
        runner.cpu_s += time.process_time() - begin


def _settle(runner: Runner, budget: Budget) -> None:
    begin = time.process_time()
    runner.fits = runner.member.settle(runner.fits, budget)
    runner.cpu_s += time.process_time() - begin


def _drop(runners: list[Runner], problem: Problem, fold: int, rules: RaceRules, left_s: float) -> None:
    """Drop members that the pool of the racing fold hardly uses, least weight per CPU-second first.

    Members with some weight are dropped only while their remaining folds would spend more than ``left_s``, and
    all of them only if the racing fold is large enough to tell.
    """
    rows = problem.parts(fold)[1]
    rest = len(rules.folds) - 1
    if len(runners) < 2 or len(rows) < rules.race_rows or not rest:
        return
    weights = pool_weights([runner.fits[fold].scores for runner in runners], problem, rows)
    shares = weights / max(weights.sum(), 1e-9)
    by_worth = np.argsort(
        [share / max(runner.cpu_s, 1e-3) for share, runner in zip(shares, runners, strict=True)]
    )
    for index in by_worth:
        forecast = rest * sum(runner.cpu_s for runner in _running(runners))
        hopeless = len(rows) >= rules.sure_rows and shares[index] < rules.hopeless
        if hopeless or (forecast > left_s and shares[index] < rules.least_weight):
            runners[index].dropped = f"weight {shares[index]:.2f} in the pool of the first fold"


def _run_rest(runners: list[Runner], folds: Sequence[int], budget: Budget) -> None:
    """Run the other folds; a member whose remaining folds would not fit into the budget leaves the race."""
    for runner in _running(runners):
        forecast = runner.cpu_s * len(folds)
        if not budget.allows(forecast) and any(other.fits.keys() >= set(folds) for other in runners):
            runner.dropped = f"its folds would take {forecast:.1f} more CPU-seconds than the budget has"
            continue
        for fold in folds:
            budget.check()
            _run_fold(runner, fold, budget)


def _decide(runners: list[Runner], folds: tuple[int, ...], grace: Budget, why: str) -> RaceResult:
    """Keep the runners of the furthest common stage after the budget ended."""
    complete = [runner for runner in _running(runners) if len(runner.fits) == len(folds)]
    kept = folds if complete else folds[:1]
    for runner in _running(runners):
        if complete and runner not in complete:
            runner.dropped = "the budget ended before its folds"
            continue
        runner.fits = {fold: fit for fold, fit in runner.fits.items() if fold in kept}
        _settle(runner, grace)
    return RaceResult(tuple(runners), kept, why)


@dataclass(frozen=True)
class Choice:
    """The pool's weights, the scores they give, and how the choice was made.

    Attributes:
        weights: One weight per finalist.
        scores: Pooled out-of-fold scores.
        loss: Loss of the pool with weights fitted on the other folds (honest), or plain if there is one fold.
        chosen: ``pool``, or the name of the member that alone is better by more than a standard error.
    """

    weights: Floats
    scores: Floats
    loss: float
    chosen: str


def choose(
    finalists: Sequence[Runner], problem: Problem, folds: tuple[int, ...], floor: float = 0.05
) -> Choice:
    """Pool the finalists, unless one of them alone is better by more than a standard error (cross-fitted)."""
    rows = rows_of(problem, folds)
    scores = [scores_of(runner, folds) for runner in finalists]
    weights = pool_weights(scores, problem, rows, floor=floor)
    chosen = "pool"
    losses = _crossfit(scores, problem, folds, floor)
    used = np.flatnonzero(weights)
    if len(used) > 1:
        singles = [_crossfit([scores[index]], problem, folds, 0.0) for index in used]
        best = int(np.argmin([single.mean() for single in singles]))
        ahead = losses - singles[best]
        if ahead.mean() > ahead.std() / np.sqrt(len(rows)):
            losses, chosen = singles[best], finalists[int(used[best])].name
            weights = np.zeros(len(finalists))
            weights[used[best]] = pool_weights([scores[int(used[best])]], problem, rows)[0]
    elif len(used) == 1:
        chosen = finalists[int(used[0])].name
    return Choice(weights, pooled(scores, weights), float(losses.mean()), chosen)


def _crossfit(scores: Sequence[Floats], problem: Problem, folds: tuple[int, ...], floor: float) -> Floats:
    """Return weighted row losses under pool weights that never saw the rows they are judged on."""
    rows = rows_of(problem, folds)
    weight = problem.row_weight(rows)
    losses = np.empty(len(rows))
    part = problem.folds[rows]
    for fold in folds:
        inside = part == fold
        outside = ~inside if len(folds) > 1 else inside
        weights = pool_weights([score[outside] for score in scores], problem, rows[outside], floor=floor)
        losses[inside] = problem.row_losses(
            pooled([score[inside] for score in scores], weights), rows[inside]
        )
    return np.asarray(losses * weight / weight.mean())
