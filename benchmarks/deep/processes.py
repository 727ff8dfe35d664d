"""One model trained by one process and by two under ``torchrun`` (gloo) on equal batches: loss, quality, wall time.

python -m benchmarks.deep.processes cifar10_6k --epochs 6 --seeds 2
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.deep.measure import record
from benchmarks.deep.sets import load
from modelworks.algorithms.plugins import estimator
from modelworks.core.budget import Budget
from modelworks.training.deep.examples import Examples
from modelworks.training.deep.job import TrainingJob, launch, trained_network
from modelworks.training.deep.networks import NetworkSpec
from modelworks.training.deep.plan import Augmentation, Plan
from modelworks.training.deep.prediction import predict


def main() -> int:
    """Run one set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    train, test = load(arguments.name)
    rows = estimator("deep.images")(side=32).rows(train, None, Budget(600))
    target = np.eye(len(test.classes), dtype=np.float32)[test.target]
    unseen = Examples(
        inputs=rows.door.read(test.payload, Budget(600)), target=target, known=np.ones_like(target),
        weight=np.ones(len(target), np.float32), loss="softmax",
    )  # fmt: skip
    how = Augmentation(flip=True, shift=0.1, colour=0.1)
    for dropout in (0.0, 0.1):
        spec = NetworkSpec(kind="image", outputs=rows.problem.outputs, width=16, side=32, dropout=dropout)
        plan = Plan(epochs=arguments.epochs, batch=64, average=0.98, augmentation=how)
        for seed in range(arguments.seeds):
            curves = {}
            for processes in (1, 2):
                with tempfile.TemporaryDirectory() as folder:
                    job = TrainingJob(spec=spec, plan=plan, seed=seed, budget_s=3600)
                    place = Path(folder)
                    job.write(place, rows.examples.take(rows.train), rows.examples.take(rows.valid))
                    start = time.monotonic()
                    result = launch(place, processes)
                    wall = round(time.monotonic() - start, 1)
                    curves[processes] = [
                        (line["train_loss"], line["valid_loss"]) for line in result["history"]
                    ]
                    right = predict(trained_network(place), unseen).argmax(1) == test.target
                interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="exact")
                line: dict[str, Any] = {
                    "set": arguments.name, "model": f"{processes} process(es), dropout {dropout}", "seed": seed,
                    "accuracy": round(float(right.mean()), 4), "low": round(interval.low, 4),
                    "high": round(interval.high, 4), "wall_s": wall, "valid_loss": round(curves[processes][-1][1], 4),
                }  # fmt: skip
                record(line)
            apart = np.abs(np.array(curves[1]) / np.array(curves[2]) - 1).max(axis=0)
            record(
                {
                    "set": arguments.name,
                    "model": f"1 against 2 processes, dropout {dropout}",
                    "seed": seed,
                    "largest_relative_difference": {
                        "train_loss": float(apart[0]),
                        "valid_loss": float(apart[1]),
                    },
                }
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
