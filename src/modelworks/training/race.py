"""The race: every member runs on the first fold; only those that a pool would use go on to the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped
from modelworks.training.member import FoldFit, Member
from modelworks.training.pool import pool_weights, pooled
from modelworks.training.problem import Floats, Problem, Rows

KEEP = 0.08
"""Share of the pool's weights below which a member is dropped."""

LEAST_ROWS = 80
"""Rows of the first fold below which its result is too noisy to drop anybody."""


@dataclass
class Entry:
    """One member in the race.

    Attributes:
        member: The member.
        fits: Fold -> what it learned.
        cpu_s: CPU-seconds it took.
        weight: Its weight in the pool; 0 if it was dropped.
        loss: Out-of-fold loss on the folds it ran, per ``Problem.reported``.
        why: Why it was kept or dropped, in words.
    """

    member: Member
    fits: dict[int, FoldFit] = field(default_factory=dict)
    cpu_s: float = 0.0
    weight: float = 0.0
    loss: float = float("nan")
    why: str = ""


@dataclass(frozen=True)
class Raced:
    """How the race ended.

    Attributes:
        entries: All members, those with weight first to be used.
        rows: Rows of the folds that every remaining member ran.
        scores: Pooled out-of-fold scores of ``rows``.
        stopped: Whether the budget ended the race early.
    """

    entries: list[Entry]
    rows: Rows
    scores: Floats
    stopped: bool


def race(members: Sequence[Member], problem: Problem, folds: Sequence[int], budget: Budget) -> Raced:
    """Run members on ``folds`` under a budget and weigh them.

    Raises:
        BudgetStopped: The budget ended before any member had finished one fold.
        Cancelled: The budget was cancelled.

    Source: Bergman et al. (2024), Don't waste your time: early stopping cross-validation (the forgiving rule).
    """
    entries = [Entry(member) for member in members]
    stopped = False
    for entry in entries:
        stopped |= not _run(entry, folds[0], budget)
    running = [entry for entry in entries if entry.fits]
    if not running:
        raise BudgetStopped(
            f"The budget of {budget.cpu_s:g} CPU-seconds ended before any model was fitted.",
            hint=f"--budget {max(1, round(budget.cpu_s * 4))}s",
        )
    first = problem.parts(folds[0])[1]
    if len(running) > 1 and len(first) >= LEAST_ROWS:
        weights = pool_weights([entry.fits[folds[0]].scores for entry in running], problem, first, floor=KEEP)
        for entry, weight in zip(running, weights.tolist(), strict=True):
            if not weight:
                entry.why = "dropped after the first fold: the pool gains nothing from it"
        running = [entry for entry, weight in zip(running, weights.tolist(), strict=True) if weight]
    for fold in folds[1:]:
        if stopped:
            break
        for entry in running:
            if not _run(entry, fold, budget):
                stopped = True
                break
    shared = [fold for fold in folds if all(fold in entry.fits for entry in running)]
    for entry in running:
        entry.fits = _settled(entry, {fold: entry.fits[fold] for fold in shared}, budget)
    rows = np.concatenate([problem.parts(fold)[1] for fold in shared])
    stacks = [np.concatenate([entry.fits[fold].scores for fold in shared]) for entry in running]
    weights = pool_weights(stacks, problem, rows, floor=0.05)
    for entry, weight, scores in zip(running, weights.tolist(), stacks, strict=True):
        entry.weight = weight
        entry.loss = problem.reported(problem.loss(scores, rows))
        entry.why = "in the pool" if weight else "ran all folds; the pool gains nothing from it"
    for entry in entries:
        if entry not in running and entry.fits:
            entry.loss = problem.reported(problem.loss(entry.fits[folds[0]].scores, first))
        elif not entry.fits:
            entry.why = "not finished: the budget ended"
    return Raced(entries=entries, rows=rows, scores=pooled(stacks, weights), stopped=stopped)


def _run(entry: Entry, fold: int, budget: Budget) -> bool:
    """Fit one fold; returns whether the budget allowed it."""
    mark = time.process_time()
    try:
        budget.check()
        entry.fits[fold] = entry.member.fit_fold(fold, budget)
    except BudgetStopped:
        return False
    finally:
        entry.cpu_s += time.process_time() - mark
    return True


def _settled(entry: Entry, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
    mark = time.process_time()
    try:
        return entry.member.settle(fits, budget)
    except BudgetStopped:
        return fits
    finally:
        entry.cpu_s += time.process_time() - mark
