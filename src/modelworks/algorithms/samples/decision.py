"""How a head's labels are read off its probabilities: thresholds and class factors for the task's metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.evaluation import default_metric
from modelworks.training.decision import DEFAULT, Decision, choose_decision, expected_threshold
from modelworks.training.heads.fitted import Head
from modelworks.training.heads.task import HeadTask
from modelworks.training.problem import Problem, sigmoid


def choose_decision_of(
    task: TrainingSamples,
    parts: Sequence[HeadTask],
    heads: Sequence[Head],
    constant: Mapping[int, float],
    metric: str | None,
    positive: str | None,
) -> Decision:
    """Choose thresholds or factors on held-out scores.

    Args:
        task: The task.
        parts: What was fitted: the task itself, or one part per label that can be learned.
        heads: One per part.
        constant: Labels that cannot be learned.
        metric: ``None`` for the usual one: of classes of which one holds nearly all, ``macro_f1``.
        positive: The class that a metric of two classes means.
    """
    if task.kind is TaskKind.REGRESSION:
        return Decision()
    if task.kind is TaskKind.MULTILABEL:
        fitted = iter(heads)
        return Decision(
            tuple(
                DEFAULT if index in constant else _threshold(next(fitted), metric, False)
                for index in range(len(task.classes))
            )
        )
    if task.kind is TaskKind.BINARY:
        return Decision((_threshold(heads[0], metric, positive == task.classes[0]),))
    wanted = metric or default_metric(task.kind, parts[0].shares().tolist())
    return choose_decision(
        _problem(parts[0], task.kind), heads[0].left_out.astype(np.float64), heads[0].held, wanted
    )


def _threshold(head: Head, metric: str | None, turned: bool) -> float:
    """Return the threshold on the chance of the second class; ``turned`` where the metric means the first."""
    scores = head.left_out[:, 0].astype(np.float64)
    found = expected_threshold(sigmoid(-scores if turned else scores), metric)
    return 1 - found if turned else found


def _problem(part: HeadTask, kind: TaskKind) -> Problem:
    assert part.folds is not None
    target = np.asarray(part.labels, np.int64)
    return Problem(kind=kind, target=target, folds=part.folds, classes=part.classes)
