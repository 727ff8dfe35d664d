"""Rare classes: what thresholds per task and class factors change, on sealed rows.

    OMP_NUM_THREADS=1 python -m benchmarks.heads.imbalance [--sets NAMES]

celeba40_a: attributes that fewer than a tenth of the training faces have. cifar10_6k: for each of three classes a task
of its own against all others, thinned to two in a hundred; half of what is left trains. hate_speech: three classes,
every third text, of which every fourth is sealed. Each metric is one order; limits are those of resampled sealed rows,
and differences are paired with the first metric, which leaves the most probable class.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.heads.results import record
from benchmarks.heads.samples import DATA, TRAIN, embedded, faces, task
from modelworks.algorithms.plugins import estimator
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.data.samples.images import read_image_folder
from modelworks.data.samples.training import TrainingSamples

RARE_SHARE, THINNED = 0.1, 0.02
THINNED_CLASSES = ("cat", "ship", "horse")
METRICS = (None, "f1", "balanced_accuracy", "mcc")
SEVERAL = ("accuracy", "macro_f1", "balanced_accuracy")
RESAMPLED = 500


@dataclass(frozen=True)
class Judged:
    """One task: training samples, sealed embeddings, and their codes."""

    train: TrainingSamples
    sealed: np.ndarray
    truth: np.ndarray


def main() -> int:
    """Measure every set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    arguments = parser.parse_args()
    for name in arguments.sets.split(","):
        tasks = SETS[name]()
        several = len(tasks[0].train.classes) > 2
        plain: np.ndarray | None = None
        for metric in SEVERAL if several else METRICS:
            drawn = measured(tasks, metric)
            plain = drawn if plain is None else plain
            names = (
                ("macro_f1", "balanced_accuracy", "accuracy")
                if several
                else ("f1", "balanced_accuracy", "ap")
            )
            row: dict[str, Any] = {"part": "imbalance", "set": name, "tasks": len(tasks)}
            row |= {"metric": metric or "none", "sealed": len(tasks[0].truth)}
            row |= {
                "rare": round(
                    float(np.mean([np.bincount(one.truth).min() / len(one.truth) for one in tasks])), 4
                )
            }
            for index, measure in enumerate(names):
                row[measure] = limits(drawn[:, index])
                if plain is not drawn:
                    row[f"{measure}_gain"] = limits(drawn[:, index] - plain[:, index])
            record(row)
    return 0


def measured(tasks: list[Judged], metric: str | None) -> np.ndarray:
    """Return three measures of an order, mean over tasks, ``[1 + RESAMPLED, 3]``; the first row is as it is."""
    recipe = estimator("samples.heads")(metric=metric)
    found = recipe.fit_all([one.train for one in tasks], Budget(900), 0)
    total = np.zeros((RESAMPLED + 1, 3))
    for one, fitted in zip(tasks, found, strict=True):
        answers = GraphSession(fitted.onnx).run({"embedding": one.sealed})
        classes = list(one.train.classes)
        said = np.array([classes.index(label) for label in answers["label"].tolist()])
        rng = np.random.default_rng(0)
        for draw in range(RESAMPLED + 1):
            rows = rng.integers(0, len(said), len(said)) if draw else np.arange(len(said))
            total[draw] += measures(one.truth[rows], said[rows], answers["probabilities"][rows])
    return total / len(tasks)


def measures(truth: np.ndarray, said: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Return F1, balanced accuracy and average precision of the rare class; of several macro F1, it and accuracy."""
    classes = chances.shape[1]
    table = np.zeros((classes, classes))
    np.add.at(table, (truth, said), 1)
    right, actual, named = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    recall, f1 = right / np.maximum(actual, 1), 2 * right / np.maximum(actual + named, 1)
    if classes > 2:
        return np.array([f1.mean(), recall.mean(), right.sum() / len(truth)])
    order = np.argsort(-chances[:, 1], kind="stable")
    hits = np.cumsum(truth[order] == 1)
    precision = (hits / np.arange(1, len(hits) + 1))[truth[order] == 1]
    return np.array([f1[1], recall.mean(), precision.mean() if len(precision) else 0.0])


def limits(values: np.ndarray) -> dict[str, float]:
    """Return the first value with the 95 % limits of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"mean": round(float(values[0]), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def rare_faces() -> list[Judged]:
    """Return the rare attributes of the faces."""
    images, values, names = faces()
    backbones, found = embedded(images, TRAIN, "image", ["images.formula"])
    return [
        _judged(backbones, found, values[:, index], np.arange(len(values)) < TRAIN, "image")
        for index in range(len(names))
        if values[:TRAIN, index].mean() < RARE_SHARE
    ]


def thinned_classes() -> list[Judged]:
    """Return one task for each of some classes, thinned."""
    table = read_image_folder(DATA / "cifar10_6k" / "images.zip").table
    labels = np.array(table.column("label").to_pylist())
    images = table.column("image").to_pylist()
    learn = np.random.default_rng(0).permutation(len(labels))
    backbones, found = embedded([images[row] for row in learn], 3000, "image", ["images.formula"])
    labels, tasks = labels[learn], []
    for name in THINNED_CLASSES:
        own, rest = np.flatnonzero(labels == name), np.flatnonzero(labels != name)
        codes = np.where(labels == name, -1, 0)
        kept = round(len(rest) * THINNED / (1 - THINNED))
        codes[own[np.linspace(0, len(own) - 1, kept).astype(np.int64)]] = 1
        tasks.append(_judged(backbones, found, codes, np.arange(len(codes)) < 3000, "image"))
    return tasks


def hateful_texts() -> list[Judged]:
    """Return the one task of the texts."""
    with gzip.open(DATA / "hate_speech" / "labeled_data.csv.gz", "rt", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[::3]
    codes = np.array([int(row["class"]) for row in rows])
    sealed = np.arange(len(rows)) % 4 == 3
    order = np.concatenate([np.flatnonzero(~sealed), np.flatnonzero(sealed)])
    texts, learn = [rows[row]["tweet"] for row in order], int((~sealed).sum())
    backbones, found = embedded(texts, learn, "text", ["text.ngrams"])
    return [_judged(backbones, found, codes[order], np.arange(len(order)) < learn, "text")]


def _judged(
    backbones: dict[str, Any],
    found: dict[str, np.ndarray],
    codes: np.ndarray,
    trains: np.ndarray,
    modality: Any,
) -> Judged:
    classes = ("no", "yes") if codes.max() == 1 else tuple(str(code) for code in range(codes.max() + 1))
    train = {key: value[trains] for key, value in found.items()}
    judged = ~trains & (codes >= 0)
    (sealed,) = (value[judged] for value in found.values())
    return Judged(task(codes[trains], classes, modality, backbones, train), sealed, codes[judged])


SETS = {"celeba40_a": rare_faces, "cifar10_6k": thinned_classes, "hate_speech": hateful_texts}


if __name__ == "__main__":
    raise SystemExit(main())
