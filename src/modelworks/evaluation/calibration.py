"""Whether claimed probabilities come true: the calibration curve, its error, and the parts of the Brier score."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelworks.core.task import TaskKind
from modelworks.evaluation.closed_forms import clopper_pearson_low
from modelworks.evaluation.predictions import Floats, Integers, Predictions
from modelworks.evaluation.probability_metrics import confidence, ece, equal_mass_bins


def calibration(predictions: Predictions) -> dict[str, Any] | None:
    """Return the calibration of a binary or multiclass model; ``None`` for other kinds.

    Returns:
        ``bins`` (mean predicted, observed share with an exact 95 % interval, rows ``n``), ``ece``,
        ``ece_if_perfect`` (mean and 95th percentile of the error that a perfectly calibrated model would show here),
        ``ece_debiased``, ``miscalibrated`` (whether the error is above that 95th percentile), ``brier`` in its
        parts (Murphy, 1973) and ``of`` (what is claimed).
    """
    if predictions.kind not in (TaskKind.BINARY, TaskKind.MULTICLASS):
        return None
    claimed, came = confidence(predictions)
    bins = equal_mass_bins(claimed)
    weight = predictions.row_weight
    error = ece(predictions)
    measured = error.value()
    usual, deviation = error.if_perfect()
    limit = usual + 1.645 * deviation
    return {
        "of": "the positive class" if predictions.kind is TaskKind.BINARY else "the most probable class",
        "bins": _curve(claimed, came, bins, weight),
        "ece": measured,
        "ece_debiased": max(0.0, measured - usual),
        "ece_if_perfect": {"mean": usual, "highest": limit},
        "miscalibrated": bool(measured > limit),
        "brier": _brier_parts(claimed, came, bins, weight),
    }


def _curve(claimed: Floats, came: Floats, bins: Integers, weight: Floats) -> list[dict[str, Any]]:
    size = int(bins.max()) + 1
    mass = np.bincount(bins, weights=weight, minlength=size)
    square = np.bincount(bins, weights=weight**2, minlength=size)
    rows = np.bincount(bins, minlength=size)
    said = np.bincount(bins, weights=weight * claimed, minlength=size)
    happened = np.bincount(bins, weights=weight * came, minlength=size)
    curve = []
    for index in np.flatnonzero(mass > 0):
        trials = mass[index] ** 2 / square[index]
        hits = happened[index] / mass[index] * trials
        curve.append(
            {
                "predicted": float(said[index] / mass[index]),
                "observed": float(happened[index] / mass[index]),
                "low": clopper_pearson_low(hits, trials, 0.025),
                "high": 1 - clopper_pearson_low(trials - hits, trials, 0.025),
                "n": int(rows[index]),
            }
        )
    return curve


def _brier_parts(claimed: Floats, came: Floats, bins: Integers, weight: Floats) -> dict[str, float]:
    total = weight.sum()
    size = int(bins.max()) + 1
    mass = np.maximum(np.bincount(bins, weights=weight, minlength=size), 1e-300)
    said = np.bincount(bins, weights=weight * claimed, minlength=size) / mass
    happened = np.bincount(bins, weights=weight * came, minlength=size) / mass
    rate = float(np.average(came, weights=weight))
    return {
        "score": float(np.average((claimed - came) ** 2, weights=weight)),
        "reliability": float((mass * (said - happened) ** 2).sum() / total),
        "resolution": float((mass * (happened - rate) ** 2).sum() / total),
        "uncertainty": rate * (1 - rate),
    }
