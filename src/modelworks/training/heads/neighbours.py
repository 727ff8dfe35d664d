"""The family ``neighbours``: votes of the nearest labelled samples; for few labels, or where classes have many shapes.

Source: Cover & Hart (1967), Nearest neighbor pattern classification; Wang et al. (2019), SimpleShot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelworks.training.heads.fitted import Draft, score_loss
from modelworks.training.heads.forms import NeighbourForm, vote_scores
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import Doubles, Floats, HeadTask, Rows

COUNTS = (1, 3, 5, 9, 15, 25)


def fit_neighbours(space: Space, tasks: Sequence[HeadTask], most: int) -> list[Draft]:
    """Fit every task; the number of neighbours by held-out loss.

    Args:
        space: The samples.
        tasks: With folds: the votes for a sample come from other folds than its own.
        most: Samples that may be remembered; more are thinned evenly.
    """
    near: dict[bytes, tuple[Rows, Rows]] = {}
    drafts = []
    for task in tasks:
        assert task.folds is not None
        rows = np.flatnonzero(task.labelled)
        kept = rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
        key = kept.tobytes() + task.folds[kept].tobytes()
        if key not in near:
            near[key] = _nearest(space.unit[kept], task.folds[kept])
        drafts.append(_draft(space, task, kept, *near[key]))
    return drafts


def _nearest(unit: Floats, folds: npt.NDArray[np.int8]) -> tuple[Rows, Rows]:
    """Return for each sample the places of the nearest of other folds, nearest first, and how many there are."""
    close = unit @ unit.T
    close[np.equal.outer(folds, folds)] = -np.inf
    most = min(COUNTS[-1], len(unit) - 1)
    found = np.argpartition(-close, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(close, found, axis=1), axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1)
    there = np.isfinite(np.take_along_axis(close, found, axis=1)).sum(axis=1)
    return found, there


def _draft(space: Space, task: HeadTask, kept: Rows, near: Rows, there: Rows) -> Draft:
    if task.classes:
        values = (task.labels[kept, None] == np.arange(task.classes)).astype(np.float32)
        prior = task.shares()
    else:
        values, prior = task.labels[kept, None].astype(np.float32), np.empty(0)
    counts = [count for count in COUNTS if count <= max(1, int(there.min()))]
    # The votes of the nearest are summed once for all counts; of two classes one is enough.
    asked = values[:, 1:] if task.classes == 2 else values
    votes = np.cumsum(asked[near[:, : counts[-1]]], axis=1)
    best: tuple[float, int, Doubles] | None = None
    for count in counts:
        mean = votes[:, count - 1] / np.float32(count)
        scores = vote_scores(np.hstack([1 - mean, mean]) if task.classes == 2 else mean, prior, count)
        loss = score_loss(scores, task, kept)
        if best is None or loss < best[0]:
            best = (loss, count, scores)
    assert best is not None
    form = NeighbourForm(
        centre=space.centre,
        memory=space.unit[kept],
        values=values,
        prior=prior.astype(np.float32),
        count=best[1],
        slope=np.ones(task.outputs, np.float32),
        shift=np.zeros(task.outputs, np.float32),
    )
    return Draft(
        form=form, scores=best[2], held=kept, setting={"neighbours": best[1], "remembered": len(kept)}
    )
