"""Forty heads of one pass against a probe fitted for every task on its own, and against networks of their own.

OMP_NUM_THREADS=1 python -m benchmarks.heads.accuracy
OMP_NUM_THREADS=1 python -m benchmarks.heads.accuracy --networks Male,Smiling --budget 60
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np

from benchmarks.heads.results import record
from benchmarks.heads.samples import TRAIN, embedded, faces, task, with_payload
from modelworks.algorithms.plugins import estimator
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.task import Limits

BACKBONE = "images.formula"


def probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the positive's probability by scikit-learn's logistic regression, penalty by five folds."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegressionCV(Cs=np.logspace(-5, 0, 6), cv=5, scoring="neg_log_loss")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.fit(train, labels).predict_proba(test)[:, 1])


def interval(values: np.ndarray) -> dict[str, float]:
    """Return the mean over samples and tasks of ``values [samples, tasks]``, 95 % limits by resampling samples."""
    rng = np.random.default_rng(0)
    per_sample = values.mean(axis=1)
    means = [per_sample[rng.integers(0, len(per_sample), len(per_sample))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": round(float(per_sample.mean()), 4), "low": round(low, 4), "high": round(high, 4)}


def log_losses(chances: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the log loss of every sample and task."""
    return -np.log(np.clip(np.where(truth == 1, chances, 1 - chances), 1e-7, 1))


def aucs(chances: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean over tasks of the area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(np.mean([roc_auc_score(truth[:, i], chances[:, i]) for i in range(truth.shape[1])]))


def main() -> int:
    """Run the comparison, or networks of their own for some tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default="")
    parser.add_argument("--budget", type=float, default=60.0)
    arguments = parser.parse_args()
    images, values, names = faces()
    backbones, found = embedded(images, TRAIN, "image", [BACKBONE])
    train, test = found[BACKBONE][:TRAIN], found[BACKBONE][TRAIN:]
    truth = values[TRAIN:]
    samples = [
        task(values[:TRAIN, index], ("no", "yes"), "image", backbones, {BACKBONE: train})
        for index in range(len(names))
    ]
    start = time.process_time()
    heads = estimator("samples.heads")().fit_all(samples, Budget(600), 0)
    cpu = {"heads": time.process_time() - start}
    ours = np.stack(
        [GraphSession(head.onnx).run({"embedding": test})["probabilities"][:, 1] for head in heads], axis=1
    )
    if arguments.networks:
        return networks(arguments, images, values, names, samples, ours)
    start = time.process_time()
    single = np.stack([probe(train, values[:TRAIN, index], test) for index in range(len(names))], axis=1)
    cpu["probe"] = time.process_time() - start
    base = np.repeat(values[:TRAIN].mean(axis=0)[None], len(truth), axis=0)
    right = {name: (p > 0.5) == truth for name, p in (("heads", ours), ("probe", single), ("majority", base))}
    chances = {"heads": ours, "probe": single, "majority": base}
    for name, p in chances.items():
        row: dict[str, Any] = {
            "part": "accuracy",
            "model": name,
            "backbone": BACKBONE,
            "tasks": len(names),
            "test": len(truth),
        }
        row |= {"accuracy": interval(right[name].astype(float)), "log_loss": interval(log_losses(p, truth))}
        row |= {"auc": round(aucs(p, truth), 4), "cpu_s": round(cpu.get(name, 0.0), 2)}
        if name != "heads":
            row["heads_minus_this"] = interval(right["heads"].astype(float) - right[name])
            row["log_loss_heads_minus_this"] = interval(log_losses(ours, truth) - log_losses(p, truth))
        record(row)
    return 0


def networks(
    arguments: Any,
    images: list[Any],
    values: np.ndarray,
    names: list[str],
    samples: list[Any],
    ours: np.ndarray,
) -> int:
    """Train the deep recipe from scratch for some tasks."""
    for name in arguments.networks.split(","):
        index = names.index(name)
        truth = values[TRAIN:, index]
        recipe = estimator("deep.images")(limits=Limits(latency_ms=10.0, budget_s=arguments.budget))
        start = time.process_time()
        model = recipe.fit(with_payload(samples[index], images[:TRAIN]), None, Budget(arguments.budget), 0)
        cpu = time.process_time() - start
        payload = with_payload(samples[index], images[TRAIN:]).payload
        p = answer(GraphSession(model.onnx), model.signature, {"payload": payload}, len(truth))
        theirs = p["probabilities"][:, 1]
        right = {"network": (theirs > 0.5) == truth, "head": (ours[:, index] > 0.5) == truth}
        record(
            {"part": "networks", "task": name, "budget_s": arguments.budget, "cpu_s": round(cpu, 1),
             "network": interval(right["network"][:, None].astype(float)),
             "head": interval(right["head"][:, None].astype(float)),
             "network_minus_head": interval(right["network"][:, None].astype(float) - right["head"][:, None])}
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
