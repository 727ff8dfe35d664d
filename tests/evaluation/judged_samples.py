"""Samples with known truth for the tests of judgement."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelworks.core.task import TaskKind
from modelworks.evaluation.predictions import Predictions, read_outputs

BINARY, MULTICLASS = TaskKind.BINARY, TaskKind.MULTICLASS
REGRESSION, MULTILABEL = TaskKind.REGRESSION, TaskKind.MULTILABEL
ANOMALY, FORECAST = TaskKind.ANOMALY, TaskKind.FORECAST

Sample = tuple[TaskKind, dict[str, Any], np.ndarray, list[str]]


def binary(rng: np.random.Generator, rows: int, *, effect: float = 1.5, positives: float = 0.3) -> Sample:
    """Calibrated probabilities of a binary target."""
    truth = (rng.random(rows) < positives).astype(np.int64)
    signal = rng.normal(size=rows) + effect * truth
    odds = np.log(positives / (1 - positives)) + effect * signal - effect**2 / 2
    p = 1 / (1 + np.exp(-odds))
    return BINARY, {"probabilities": np.stack([1 - p, p], axis=1).astype(np.float32)}, truth, ["no", "yes"]


def multiclass(
    rng: np.random.Generator, rows: int, shares: tuple[float, ...] = (0.5, 0.3, 0.2), effect: float = 1.5
) -> Sample:
    """Calibrated probabilities of several classes."""
    truth = rng.choice(len(shares), rows, p=shares)
    z = rng.normal(size=(rows, len(shares)))
    z[np.arange(rows), truth] += effect
    z = effect * z + np.log(shares)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return (
        MULTICLASS,
        {"probabilities": p.astype(np.float32)},
        truth,
        [f"class{k}" for k in range(len(shares))],
    )


def regression(rng: np.random.Generator, rows: int, noise: float = 1.0) -> Sample:
    truth = rng.normal(size=rows) * 2 + 10
    predicted = truth + noise * rng.normal(size=rows)
    return REGRESSION, {"prediction": predicted}, truth, []


def multilabel(rng: np.random.Generator, rows: int, labels: int = 4) -> Sample:
    shared = rng.normal(size=(rows, 1))
    x = rng.normal(size=(rows, labels))
    truth = (x + shared + rng.normal(size=(rows, labels)) > 0.8).astype(np.uint8)
    p = 1 / (1 + np.exp(-(1.5 * x + shared - 1)))
    return MULTILABEL, {"probabilities": p.astype(np.float32)}, truth, [f"label{k}" for k in range(labels)]


def anomaly(rng: np.random.Generator, rows: int, *, share: float = 0.2, effect: float = 2.0) -> Sample:
    truth = (rng.random(rows) < share).astype(np.int64)
    score = rng.normal(size=rows) + effect * truth
    return ANOMALY, {"score": score.astype(np.float32), "anomalous": score > 1.5}, truth, []


def forecast(rng: np.random.Generator, rows: int, horizon: int = 4, noise: float = 1.0) -> Sample:
    truth = 10 + 2 * rng.normal(size=(rows, horizon))
    predicted = truth + noise * rng.normal(size=truth.shape)
    return FORECAST, {"prediction": predicted}, truth, []


def read(sample: Sample, **more: Any) -> Predictions:
    return read_outputs(*sample, **more)


def constant(sample: Sample) -> dict[str, np.ndarray]:
    """The outputs of a model that gives every row one answer."""
    kind, outputs, truth, _ = sample
    if kind is ANOMALY:
        return {"score": np.zeros(len(truth)), "anomalous": np.zeros(len(truth), dtype=bool)}
    if kind is FORECAST:
        return {"prediction": np.full(truth.shape, truth.mean())}
    if kind is REGRESSION:
        return {"prediction": np.full(len(truth), truth.mean())}
    shape = outputs["probabilities"].shape
    if kind is MULTILABEL:
        return {"probabilities": np.broadcast_to((truth == 1).mean(axis=0), shape)}
    share = np.bincount(truth, minlength=shape[1]) / len(truth)
    return {"probabilities": np.broadcast_to(share, shape)}
