"""Which families are tried for which tasks, and which head each task gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from modelworks.core.budget import Budget
from modelworks.training.heads.fitted import Draft, Head, calibrated, compared
from modelworks.training.heads.logistic import LEAD, fit_logistic, leads
from modelworks.training.heads.neighbours import fit_neighbours
from modelworks.training.heads.network import LEAST, fit_networks, network_cpu_s
from modelworks.training.heads.prototype import fit_prototypes
from modelworks.training.heads.ridge import fit_ridge
from modelworks.training.heads.selftraining import CPU_S, fit_self_trained, may_self_train
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import FOLDED, Doubles, Floats, HeadTask, Rows, check_task

FAMILIES = ("ridge", "self_trained", "logistic", "prototype", "neighbours", "network")
"""In the order of what they cost; the earlier one is taken where two do equally well."""

OF_CLASSES = frozenset({"logistic", "prototype", "self_trained"})
FEW = FOLDED
"""Labelled samples up to which prototypes and neighbours are tried unasked: as long as every fold is held out."""
UNASKED_CPU_S = {"self_trained": 5.0, "network": 5.0}
"""CPU-seconds, by their declared cost, that an order spends unasked on one backbone."""


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
        "self_trained": lambda own: fit_self_trained(space, own),
        "prototype": lambda own: fit_prototypes(space, own),
        "neighbours": lambda own: fit_neighbours(space, own, remembered),
        "network": lambda own: fit_networks(space, own, seed, budget),
    }
    for task in tasks:
        check_task(task, len(space.embeddings))
    heads: list[list[Head]] = [[] for _ in tasks]
    for family in FAMILIES:
        chosen = [index for index, task in enumerate(tasks) if _suits(family, task, forced, remembered)]
        if family in UNASKED_CPU_S and forced is None:
            spent = sum(CPU_S if family == "self_trained" else network_cpu_s(tasks[i]) for i in chosen)
            chosen = chosen if spent <= UNASKED_CPU_S[family] else []
        if not chosen:
            continue
        budget.check()
        own = [tasks[index] for index in chosen]
        if family == "logistic":
            rivals = [heads[index][0] for index in chosen] if forced is None else None
            raced = fit_logistic(space, own, budget, rivals)
            chosen = [index for index, draft in zip(chosen, raced, strict=True) if draft is not None]
            own = [tasks[index] for index in chosen]
            drafts = [draft for draft in raced if draft is not None]
        else:
            drafts = fits[family](own)
        for index, head in zip(chosen, calibrated(family, own, drafts), strict=True):
            heads[index].append(head)
    return heads


def _suits(family: str, task: HeadTask, forced: str | None, remembered: int) -> bool:
    if not task.classes and family in OF_CLASSES:
        return False
    if task.folds is None or (forced in OF_CLASSES and not task.classes):
        return family == "ridge"
    if forced == "ridge" or (forced is None and family == "ridge"):
        return family == "ridge"
    if not task.parts:
        return family == "ridge"
    if family == "self_trained":
        return may_self_train(task) and forced in {None, family}
    if forced == "self_trained" and not may_self_train(task):
        return family == "ridge"
    if forced is not None:
        return family == forced
    known = task.known
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


def losses_of(heads: Sequence[Head], task: HeadTask, rows: Rows) -> list[Floats | Doubles]:
    """Return the held-out losses of some heads of a task on rows that all of them held out.

    Heads that held out more than others are calibrated anew on these rows, as the others were.
    """
    others = [head for head in heads if len(head.held) != len(rows)]
    anew = iter(compared([head.at(rows) for head in others], [task] * len(others), [rows] * len(others)))
    return [head.row_losses if len(head.held) == len(rows) else next(anew) for head in heads]


def taken(losses: Sequence[Floats | Doubles], families: Sequence[str]) -> int:
    """Return which of some heads to take, in the order of what they cost: the first that is as good as the best.

    As good is: its held-out losses are not larger by more than ``LEAD`` standard errors of the difference, sample by
    sample. One, as Breiman has it for trees of one family, let every fourth task of many leave its ridge head by
    chance. Of ridge and its self-trained kin, which is fitted where it is known to help, the better one stands.

    Source: Breiman et al. (1984), Classification and regression trees (the rule of one standard error).
    """
    means = [float(found.mean()) for found in losses]
    running = list(range(len(losses)))
    if "self_trained" in families and "ridge" in families:
        pair = [families.index("ridge"), families.index("self_trained")]
        running.remove(max(pair, key=lambda index: means[index]))
    best = min(running, key=lambda index: means[index])
    return next(index for index in running if index == best or not leads(losses[best], losses[index], LEAD))
