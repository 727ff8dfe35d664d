"""Metrics of decided labels (binary, multiclass): all are functions of the confusion matrix."""

from __future__ import annotations

from functools import partial

import numpy as np

from modelworks.evaluation.predictions import Floats, Predictions
from modelworks.evaluation.statistic import Caution, Combine, ShareStatistic, SumStatistic

MOST_PSEUDO_CLASSES = 100


def accuracy(predictions: Predictions) -> ShareStatistic:
    """Share of rows whose label is right."""
    everywhere = np.ones(predictions.rows, dtype=bool)
    return ShareStatistic(predictions.truth == predictions.label, everywhere, predictions.weight)


def precision(predictions: Predictions) -> ShareStatistic:
    """Share of rows called positive that are."""
    named = np.asarray(predictions.label == predictions.positive)
    return ShareStatistic(named & predictions.hits, named, predictions.weight)


def recall(predictions: Predictions) -> ShareStatistic:
    """Share of positives that are called so."""
    named = np.asarray(predictions.label == predictions.positive)
    return ShareStatistic(named & predictions.hits, predictions.hits, predictions.weight)


def f1(predictions: Predictions) -> ShareStatistic:
    """Harmonic mean of precision and recall, through the share TP / (TP + FP + FN)."""
    named = np.asarray(predictions.label == predictions.positive)
    return ShareStatistic(named & predictions.hits, named | predictions.hits, predictions.weight, curve="f1")


class ClassMean(SumStatistic):
    """Mean recall over classes, from the sums ``[right, true, named]`` per class."""

    def shares(self) -> tuple[Floats, Floats]:
        """Return hits and trials per class, at Kish's effective size, classes without rows left out."""
        right, true, _ = np.split(self.sums, 3)
        if self.weight is not None:
            shrink = float(self.weight.sum() / np.square(self.weight).sum())
            right, true = right * shrink, true * shrink
        return right[true > 0], true[true > 0]


def balanced_accuracy(predictions: Predictions) -> ClassMean:
    """Mean recall over the classes that occur."""

    def combine(sums: Floats) -> Floats:
        right, true, _ = np.split(sums, 3, axis=1)
        return np.asarray(np.where(true > 0, right / true, 0.0).sum(axis=1) / (true > 0).sum(axis=1))

    terms, cell = confusion_cells(predictions)
    return ClassMean(terms, combine, cell, predictions.weight)


def macro_f1(predictions: Predictions) -> SumStatistic:
    """Mean F1 over the classes that occur or are named."""

    def combine(sums: Floats) -> Floats:
        right, true, named = np.split(sums, 3, axis=1)
        either = true + named
        return np.asarray(
            np.where(either > 0, 2 * right / either, 0.0).sum(axis=1) / (either > 0).sum(axis=1)
        )

    return _of_confusion(predictions, combine)


def mcc(predictions: Predictions) -> SumStatistic:
    """Matthews correlation of labels and truth; 0 where it is not defined (Gorodkin, 2004)."""

    def combine(sums: Floats) -> Floats:
        right, true, named = np.split(sums, 3, axis=1)
        total = true.sum(axis=1)
        covariance = right.sum(axis=1) * total - (true * named).sum(axis=1)
        spread = (total**2 - (true**2).sum(axis=1)) * (total**2 - (named**2).sum(axis=1))
        return np.asarray(np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 1e-300)), 0.0))

    return _of_confusion(predictions, combine)


def _of_confusion(predictions: Predictions, combine: Combine) -> SumStatistic:
    terms, cell = confusion_cells(predictions)
    caution: Caution | None = None
    if len(predictions.classes) <= MOST_PSEUDO_CLASSES:
        caution = partial(_with_pseudo_mistake, predictions, combine)
    return SumStatistic(terms, combine, cell, predictions.weight, caution)


def _with_pseudo_mistake(predictions: Predictions, combine: Combine) -> tuple[float, float]:
    """Return value and standard error after adding one mistaken row, spread over all possible mistakes.

    The label is named as often as it is among the rows, the true class is another one, as often as it occurs: the one
    failure that Clopper and Pearson's lower limit adds to a proportion, for functions of the whole matrix.
    """
    counts = confusion_matrix(predictions)
    size, total = len(counts), counts.sum()
    square = 1.0 if predictions.weight is None else float(np.square(predictions.weight).sum() / total)
    counts /= square  # Kish: as many rows as an unweighted sample of the same precision.
    others = np.repeat(counts.sum(axis=1)[:, None], size, axis=1) * (1 - np.eye(size))
    mistake = counts.sum(axis=0) * others / np.maximum(others.sum(axis=0), 1e-300)
    counts = counts + mistake / max(float(mistake.sum()), 1e-300)
    truth, label = np.nonzero(counts > 0)
    mass = counts[truth, label]
    index = np.arange(len(mass))
    terms = np.zeros((len(mass), 3 * size))
    terms[index, truth] = truth == label
    terms[index, size + truth] = 1.0
    terms[index, 2 * size + label] = 1.0
    statistic = SumStatistic(terms, combine, None, mass)
    return statistic.value(), float(np.sqrt((statistic.influence() ** 2 / mass).sum()))


def confusion_cells(predictions: Predictions) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return terms ``[right, true, named]`` per class for each occupied confusion cell, and each row's cell."""
    assert predictions.label is not None
    size = len(predictions.classes)
    codes, cell = np.unique(predictions.truth * size + predictions.label, return_inverse=True)
    truth, label = np.divmod(codes, size)
    terms = np.zeros((len(codes), 3 * size))
    index = np.arange(len(codes))
    terms[index, truth] = truth == label
    terms[index, size + truth] = 1.0
    terms[index, 2 * size + label] = 1.0
    return terms, cell


def confusion_matrix(predictions: Predictions) -> Floats:
    """Return weighted counts ``[true class, named class]``."""
    assert predictions.label is not None
    size = len(predictions.classes)
    code = predictions.truth * size + predictions.label
    return (
        np.bincount(code, weights=predictions.weight, minlength=size * size).reshape(size, size).astype(float)
    )
