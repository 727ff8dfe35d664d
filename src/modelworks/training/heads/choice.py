"""Which families are tried for which tasks, and which head each task gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from modelworks.core.budget import Budget
from modelworks.training.heads.fitted import Draft, Head, calibrated
from modelworks.training.heads.logistic import fit_logistic
from modelworks.training.heads.neighbours import fit_neighbours
from modelworks.training.heads.network import LEAST, fit_networks, network_cpu_s
from modelworks.training.heads.prototype import fit_prototypes
from modelworks.training.heads.ridge import fit_ridge
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import Doubles, HeadTask, Rows, check_task

FAMILIES = ("ridge", "logistic", "prototype", "neighbours", "network")
"""In the order of what they cost; the earlier one is taken where two do equally well."""

FEW = 2000
"""Labelled samples up to which prototypes and neighbours are tried unasked."""
NETWORKS_CPU_S = 5.0
"""CPU-seconds of networks, by their declared cost, that an order spends unasked on one backbone."""


def fit_families(
    space: Space,
    tasks: Sequence[HeadTask],
    *,
    forced: str | None,
    remembered: int,
    seed: int,
    budget: Budget,
) -> list[list[Head]]:
    """Fit every family that suits a task; all tasks of a family in one pass.

    Args:
        space: Embeddings that the tasks share.
        tasks: With folds.
        forced: The one family to fit; ``None`` for all that suit. A family that cannot answer a task (classes it does
            not have) gives way to ``ridge``.
        remembered: Samples that a head of neighbours may keep.
        seed: Of the networks.
        budget: Checked between families and steps.

    Returns:
        The heads of every task.

    Raises:
        DataError: A task cannot be learned.
    """
    fits: dict[str, Callable[[list[HeadTask]], list[Draft]]] = {
        "ridge": lambda own: fit_ridge(space, own),
        "logistic": lambda own: fit_logistic(space, own, budget),
        "prototype": lambda own: fit_prototypes(space, own),
        "neighbours": lambda own: fit_neighbours(space, own, remembered),
        "network": lambda own: fit_networks(space, own, seed, budget),
    }
    for task in tasks:
        check_task(task, len(space.embeddings))
    heads: list[list[Head]] = [[] for _ in tasks]
    for family in FAMILIES:
        chosen = [index for index, task in enumerate(tasks) if _suits(family, task, forced, remembered)]
        if family == "network" and forced is None:
            spent = sum(network_cpu_s(tasks[index]) for index in chosen)
            chosen = chosen if spent <= NETWORKS_CPU_S else []
        if not chosen:
            continue
        budget.check()
        own = [tasks[index] for index in chosen]
        for index, head in zip(chosen, calibrated(family, own, fits[family](own)), strict=True):
            heads[index].append(head)
    return heads


def _suits(family: str, task: HeadTask, forced: str | None, remembered: int) -> bool:
    if not task.classes and family in {"logistic", "prototype"}:
        return False
    if task.folds is None or (forced in {"logistic", "prototype"} and not task.classes):
        return family == "ridge"
    if family != "ridge" and not task.parts:
        return False
    if forced is not None:
        return family == forced or (family == "ridge" and not task.parts)
    known = int(task.labelled.sum())
    if family == "prototype":
        return known <= FEW
    if family == "neighbours":
        return known <= min(FEW, remembered)
    return family != "network" or known >= LEAST


def common_rows(heads: Sequence[Head]) -> Rows:
    """Return the samples that every one of some heads of a task held out."""
    if len(heads) == 1:
        return heads[0].held
    return np.asarray(reduce(np.intersect1d, [head.held for head in heads]), np.int64)


def taken(losses: Sequence[Doubles]) -> int:
    """Return which of some heads to take, in the order of what they cost: the first that is as good as the best.

    As good is: its held-out losses are larger by no more than one standard error of the difference, sample by sample.

    Source: Breiman et al. (1984), Classification and regression trees (the rule of one standard error).
    """
    best = min(losses, key=lambda found: float(found.mean()))
    for index, found in enumerate(losses):
        apart = found - best
        if apart.mean() <= apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else found is best:
            return index
    raise AssertionError("the best is as good as itself")
