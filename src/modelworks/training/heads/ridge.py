"""The family ``ridge``: closed form, one factorisation for all tasks, penalty by exact leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelworks.training.heads.fitted import Draft, Head, calibrated
from modelworks.training.heads.forms import LinearForm
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import FOLDED, Floats, HeadTask, Mask, Rows, check_task
from modelworks.training.ridge import Factor, Ridge, factorise, fit_complete, fit_masked, folds_out

DEFAULT_PENALTIES = tuple(float(10.0**power) for power in range(-4, 4))
PATTERNS = 3
"""So many patterns of missing labels get a factorisation of their own; beyond that they share one."""


def fit_heads(
    embeddings: Floats, tasks: Sequence[HeadTask], *, penalties: Sequence[float] = DEFAULT_PENALTIES
) -> list[Head]:
    """Fit a ridge head for every task in one pass and calibrate it on its held-out predictions.

    Args:
        embeddings: ``[n, d]``.
        tasks: Tasks over the same ``n`` samples; each may leave samples unlabelled.
        penalties: Ridge penalties to choose from, relative to the mean eigenvalue of the covariance.

    Returns:
        One head per task, in the order of ``tasks``.

    Raises:
        DataError: A task has fewer than two labelled samples or only one class.
    """
    return calibrated("ridge", tasks, fit_ridge(Space(embeddings), tasks, penalties))


def fit_ridge(
    space: Space, tasks: Sequence[HeadTask], penalties: Sequence[float] = DEFAULT_PENALTIES
) -> list[Draft]:
    """Fit every task in one pass.

    Tasks that are labelled on the same samples share one eigendecomposition (of the smaller of the covariance and the
    Gram matrix). Where many tasks lack labels of their own, they share the one of all samples (``ridge.fit_masked``);
    a task with few labels has a small problem of its own. The penalty of each task is the one with the least
    leave-one-out squared error. With few labels and known folds, the scores leave out whole folds, exactly as the
    other families do; else they leave out one sample. Where samples hang together, whole folds choose the penalty too.

    Source: Allen (1974), PRESS; Rifkin & Lippert (2007), Notes on regularized least squares.
    """
    embeddings = space.embeddings
    groups: dict[bytes, list[int]] = {}
    for index, task in enumerate(tasks):
        check_task(task, len(embeddings))
        pattern = b"" if task.labelled.all() else np.packbits(task.labelled).tobytes()
        groups.setdefault(pattern, []).append(index)
    drafts: dict[int, Draft] = {}
    shared: list[int] = []
    for indices in groups.values():
        labelled = tasks[indices[0]].labelled
        if _shares(labelled, embeddings.shape[1], len(groups)):
            shared += indices
            continue
        own = [tasks[index] for index in indices]
        factor = space.factor if labelled.all() else factorise(embeddings[labelled])
        targets, blocks = _stacked(own, labelled)
        if own[0].grouped and all(task.folds is not None and task.parts for task in own):
            found = [_by_folds(embeddings, factor, task, penalties) for task in own]
            drafts.update(zip(indices, found, strict=True))
            continue
        fitted = fit_complete(factor, targets, blocks, penalties)
        _leave_folds_out(fitted, factor, own, labelled, targets, blocks)
        known = np.ones((len(targets), len(own)), bool)
        drafts.update(zip(indices, _drafts(own, blocks, fitted, known, labelled), strict=True))
    if shared:
        shared.sort()
        own = [tasks[index] for index in shared]
        everything = np.ones(len(embeddings), bool)
        targets, blocks = _stacked(own, everything)
        known = np.stack([task.labelled for task in own], axis=1)
        wide = np.repeat(known, [block.stop - block.start for block in blocks], axis=1)
        fitted = fit_masked(space.factor, targets, wide, blocks, penalties)
        drafts.update(zip(shared, _drafts(own, blocks, fitted, known, everything), strict=True))
    return [drafts[index] for index in range(len(tasks))]


def _by_folds(embeddings: Floats, factor: Factor, task: HeadTask, penalties: Sequence[float]) -> Draft:
    """Fit one task whose penalty, and scores, come from folds that were held out whole."""
    parts = task.parts
    tried: list[list[Floats]] = [[] for _ in penalties]
    errors = np.zeros(len(penalties))
    for learned, held in parts:
        inner = factorise(embeddings[learned])
        truth = _stacked([task], _mask(held, len(embeddings)))[0]
        rows = _stacked([task], _mask(learned, len(embeddings)))[0]
        for number, penalty in enumerate(penalties):
            one = fit_complete(inner, rows, [slice(0, task.outputs)], (penalty,))
            found = (embeddings[held] @ one.weights + one.bias).astype(np.float32)
            errors[number] += float(((found - truth) ** 2).sum())
            tried[number].append(found)
    best = int(np.argmin(errors))
    targets, _ = _stacked([task], task.labelled)
    fitted = fit_complete(factor, targets, [slice(0, task.outputs)], (penalties[best],))
    held = np.concatenate([rows for _, rows in parts])
    order = np.argsort(held, kind="stable")
    return Draft(
        form=LinearForm(weights=fitted.weights.astype(np.float32), bias=fitted.bias.astype(np.float32)),
        scores=np.concatenate(tried[best])[order],
        held=held[order],
        setting={"penalty": float(penalties[best])},
    )


def _mask(rows: Rows, size: int) -> Mask:
    found = np.zeros(size, bool)
    found[rows] = True
    return found


def _shares(labelled: Mask, width: int, patterns: int) -> bool:
    """Say whether a pattern of labels uses the factorisation of all samples: its own would cost more."""
    return patterns > PATTERNS and not labelled.all() and 2 * int(labelled.sum()) > min(len(labelled), width)


def _stacked(tasks: Sequence[HeadTask], rows: Mask) -> tuple[Floats, list[slice]]:
    """Stack all tasks as columns: -1/+1 for binary, one column per class, the value for regression.

    Returns:
        ``[rows, columns]``, each column in one piece, and the columns of every task.
    """
    ends = np.cumsum([task.outputs for task in tasks])
    blocks = [slice(int(end) - task.outputs, int(end)) for end, task in zip(ends, tasks, strict=True)]
    columns = np.empty((int(ends[-1]), int(rows.sum())), np.float32)
    whole = columns.shape[1] == len(rows)
    for task, block in zip(tasks, blocks, strict=True):
        labels = task.labels if whole else task.labels[rows]
        if task.classes == 2:
            np.multiply(labels == 1, np.float32(2), out=columns[block.start])
            columns[block.start] -= 1
        elif task.classes:
            columns[block] = labels == np.arange(task.classes)[:, None]
        else:
            columns[block.start] = np.where(np.isfinite(labels), labels, 0.0)
    return columns.T, blocks


def _leave_folds_out(
    fitted: Ridge,
    factor: Factor,
    tasks: Sequence[HeadTask],
    labelled: Mask,
    targets: Floats,
    blocks: Sequence[slice],
) -> None:
    """Put predictions that leave out whole folds in the place of those that leave out one sample, if it is cheap."""
    if len(targets) > FOLDED:
        return
    for task, block in zip(tasks, blocks, strict=True):
        if task.folds is not None:
            penalty = float(fitted.penalties[block.start])
            found = folds_out(factor, targets[:, block], penalty, task.folds[labelled])
            fitted.left_out[:, block] = found


def _drafts(
    tasks: Sequence[HeadTask], blocks: Sequence[slice], fitted: Ridge, known: Mask, rows: Mask
) -> list[Draft]:
    """Return one draft per task; ``known [rows, tasks]``."""
    places, complete = np.flatnonzero(rows), bool(known.all())
    weights, bias = fitted.weights.astype(np.float32), fitted.bias.astype(np.float32)
    return [
        Draft(
            form=LinearForm(weights=weights[:, block], bias=bias[block]),
            scores=fitted.left_out[:, block] if complete else fitted.left_out[known[:, index]][:, block],
            held=places if complete else places[known[:, index]],
            setting={"penalty": float(fitted.penalties[block.start])},
        )
        for index, block in enumerate(blocks)
    ]
