"""Losses and calibration of one test fold, and the reading of one prepared table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FLOOR = 1e-7
BINS = 15


@dataclass(frozen=True)
class Fold:
    """One split of one table: data frames of raw columns, class codes or floats as targets."""

    kind: str
    categories: list[str]
    classes: list[str]
    train: Any
    train_target: np.ndarray
    test: Any
    test_target: np.ndarray


def load_fold(table: str, fold: int) -> Fold:
    """Return fold ``fold`` of ``table`` from the prepared Parquet file."""
    import json

    import pandas as pd

    from benchmarks.accuracy.suite import LOCK, work_folder

    line = json.loads(LOCK.read_text())[table]
    folder = work_folder() / "tables"
    frame = pd.read_parquet(folder / f"{table}.parquet")
    folds = np.load(folder / f"{table}.folds.npy")
    target = frame.pop("__target__").to_numpy()
    for name in line["categories"]:
        values = frame[name].astype(object)
        frame[name] = values.where(values.notna(), None)
    train, test = folds != fold, folds == fold
    return Fold(
        kind=line["kind"],
        categories=line["categories"],
        classes=line["classes"],
        train=frame[train].reset_index(drop=True),
        train_target=target[train],
        test=frame[test].reset_index(drop=True),
        test_target=target[test],
    )


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return rows clipped to [1e-7, 1] and scaled to sum to one."""
    clipped = np.clip(np.asarray(outputs, dtype=np.float64), FLOOR, 1.0)
    return clipped / clipped.sum(axis=1, keepdims=True)


def loss_of(kind: str, truth: np.ndarray, outputs: np.ndarray) -> float:
    """Return root mean squared error (regression) or log loss in nats (classes)."""
    if kind == "regression":
        return float(np.sqrt(np.mean((truth - np.asarray(outputs, dtype=np.float64).ravel()) ** 2)))
    return float(-np.mean(np.log(probabilities(outputs)[np.arange(len(truth)), truth])))


def expected_calibration_error(truth: np.ndarray, outputs: np.ndarray) -> float:
    """Return ECE of the predicted class, 15 equal-width bins (Guo et al. 2017)."""
    confidence, hit = outputs.max(axis=1), outputs.argmax(axis=1) == truth
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    total = 0.0
    for index in range(BINS):
        inside = bins == index
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - hit[inside].mean())
    return float(total)


def measure(kind: str, truth: np.ndarray, outputs: np.ndarray) -> dict[str, float | None]:
    """Return every quality measure of one test fold; ``loss`` is the primary one."""
    loss = loss_of(kind, truth, outputs)
    if kind == "regression":
        return {"loss": loss, "r2": float(1 - loss**2 / np.var(truth))}
    from sklearn.metrics import roc_auc_score

    scaled = probabilities(outputs)
    one_hot = np.eye(scaled.shape[1])[truth]
    present = len(np.unique(truth)) == scaled.shape[1]
    auc = None
    if kind == "binary":
        auc = float(roc_auc_score(truth, scaled[:, 1]))
    elif present:
        auc = float(roc_auc_score(truth, scaled, multi_class="ovr"))
    return {
        "loss": loss,
        "accuracy": float((scaled.argmax(axis=1) == truth).mean()),
        "auc": auc,
        "ece": expected_calibration_error(truth, scaled),
        "brier": float(np.mean(np.sum((scaled - one_hot) ** 2, axis=1))),
    }
