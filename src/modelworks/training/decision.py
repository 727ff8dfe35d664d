"""From probabilities to decisions: thresholds and class factors that serve the task's metric, chosen out of fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.core.task import TaskKind
from modelworks.training.problem import MISSING_LABEL, Floats, Problem, Rows, sigmoid, softmax

DEFAULT = 0.5
_BY_METRIC = {
    "f1": "f1",
    "f1_macro": "f1",
    "macro_f1": "f1",
    "balanced_accuracy": "balanced_accuracy",
    "mcc": "mcc",
}
_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Decision:
    """How a label is read off probabilities.

    Attributes:
        thresholds: One for binary, one per label for multilabel; a probability at or above it is a yes.
        factors: For multiclass: probabilities are multiplied by these before the largest is taken.
    """

    thresholds: tuple[float, ...] = (DEFAULT,)
    factors: tuple[float, ...] = ()


def choose_decision(problem: Problem, scores: Floats, rows: Rows, metric: str | None) -> Decision:
    """Choose thresholds or factors on out-of-fold scores.

    The default is the most probable class. ``f1``, ``balanced_accuracy`` and ``mcc`` (binary and per label) move
    the threshold; ``macro_f1``, ``balanced_accuracy`` and ``mcc`` of several classes favour rare classes by a
    power of their inverse share.
    """
    aim = _BY_METRIC.get((metric or "").lower(), "")
    if problem.kind is TaskKind.BINARY:
        if not aim:
            return Decision()
        truth = problem.target[rows] == 1
        return Decision((_threshold(sigmoid(scores[:, 0]), truth, problem.row_weight(rows), aim),))
    if problem.kind is TaskKind.MULTILABEL:
        if not aim:
            return Decision((DEFAULT,) * problem.classes)
        chances, weight = sigmoid(scores), problem.row_weight(rows)
        found = []
        for label in range(problem.classes):
            known = problem.target[rows, label] != MISSING_LABEL
            truth = problem.target[rows[known], label] == 1
            found.append(_threshold(chances[known, label], truth, weight[known], aim))
        return Decision(tuple(found))
    if problem.kind is TaskKind.MULTICLASS:
        return Decision((), _factors(problem, scores, rows, aim))
    return Decision(())


def _threshold(
    chances: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_], weight: Floats, aim: str
) -> float:
    """Return the threshold with the best value of ``aim``; ties go to the one nearest to one half."""
    if truth.all() or not truth.any():
        return DEFAULT
    return _best_cut(chances, truth.astype(np.float64), weight, aim)


def expected_threshold(chances: npt.NDArray[np.floating], metric: str | None) -> float:
    """Return the threshold with the best value of a metric that is expected where chances are true.

    Labels of a few rare rows say little about where to cut; calibrated chances of all rows say it with less noise.

    Source: Ye, Chai, Lee & Chieu (2012), Optimizing F-measure: a tale of two approaches; Lipton, Elkan & Narayanaswamy
    (2014), Thresholding classifiers to maximize F1 score.
    """
    aim = _BY_METRIC.get((metric or "").lower(), "")
    if not aim:
        return DEFAULT
    return _best_cut(chances, chances, np.ones(len(chances)), aim)


def _best_cut(
    chances: npt.NDArray[np.floating], share: npt.NDArray[np.floating], weight: Floats, aim: str
) -> float:
    """Return the best cut; ``share`` is how far each row is a positive one."""
    order = np.argsort(-chances, kind="stable")
    sorted_chances, positive = chances[order], (share * weight)[order]
    negative = weight[order] - positive
    hits, alarms = np.cumsum(positive), np.cumsum(negative)
    ends = np.append(np.flatnonzero(np.diff(sorted_chances)), len(order) - 1)
    value = _value(aim, hits[ends], alarms[ends], hits[-1], alarms[-1])
    lower = np.append(sorted_chances[ends[:-1] + 1], 0.0)
    cuts = (sorted_chances[ends] + lower) / 2
    best = np.flatnonzero(value >= value.max() - 1e-12)
    return float(np.clip(cuts[best[np.argmin(np.abs(cuts[best] - DEFAULT))]], 1e-6, 1 - 1e-6))


def _value(aim: str, hits: Floats, alarms: Floats, positives: float, negatives: float) -> Floats:
    missed, quiet = positives - hits, negatives - alarms
    if aim == "f1":
        return np.asarray(2 * hits / (2 * hits + alarms + missed))
    if aim == "balanced_accuracy":
        return np.asarray(hits / positives + quiet / negatives)
    under = np.sqrt((hits + alarms) * (hits + missed) * (quiet + alarms) * (quiet + missed))
    return np.asarray((hits * quiet - alarms * missed) / np.maximum(under, 1e-12))


def _factors(problem: Problem, scores: Floats, rows: Rows, aim: str) -> tuple[float, ...]:
    """Return class factors ``share ** -exponent`` with the exponent that is best out of fold."""
    if not aim:
        return ()
    truth, weight = problem.target[rows], problem.row_weight(rows)
    share = np.bincount(truth, weight, minlength=problem.classes) / weight.sum()
    share = np.maximum(share, 1.0 / len(rows))
    chances = softmax(scores)
    values = []
    for exponent in _EXPONENTS:
        chosen = (chances * share**-exponent).argmax(axis=1)
        table = np.zeros((problem.classes, problem.classes))
        np.add.at(table, (truth, chosen), weight)
        values.append(_class_value(aim, table))
    exponent = _EXPONENTS[int(np.argmax(values))]
    factors = share**-exponent
    return () if exponent == 0 else tuple((factors / factors.max()).tolist())


def _class_value(aim: str, table: Floats) -> float:
    """Return macro F1, balanced accuracy or the multiclass MCC (Gorodkin 2004) of a confusion table."""
    right, actual, said = np.diag(table), table.sum(1), table.sum(0)
    if aim == "f1":
        return float(np.mean(2 * right / np.maximum(actual + said, 1e-12)))
    if aim == "balanced_accuracy":
        return float(np.mean(right / np.maximum(actual, 1e-12)))
    total = table.sum()
    above = right.sum() * total - actual @ said
    under = np.sqrt((total**2 - said @ said) * (total**2 - actual @ actual))
    return float(above / max(under, 1e-12))
