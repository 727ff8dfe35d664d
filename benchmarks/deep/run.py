"""Heads on backbones and networks of their own, on one set, at stated CPU budgets.

    OMP_NUM_THREADS=1 python -m benchmarks.deep.run cifar10_6k --budgets 120,400

Rows are appended to ``results/`` as they are found, so a run that is cut leaves what it measured.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.deep.measure import against, measured, record
from benchmarks.deep.sets import MODALITIES, load
from modelworks.algorithms.backbones.fusion import payload_inputs
from modelworks.algorithms.plugins import backbone_choices, backbone_source, estimator
from modelworks.compute.embedding import embed_column
from modelworks.compute.payloads import image_pixels
from modelworks.core.budget import Budget
from modelworks.core.estimator import FittedModel
from modelworks.core.task import Limits
from modelworks.data.samples.training import TrainingSamples

RECIPES = {"image": "deep.images", "text": "deep.text", "series": "deep.series"}


def embedded(train: TrainingSamples) -> TrainingSamples:
    """Return the samples with the embeddings of every backbone that is compared for the modality."""
    payloads: Any = list(train.payload)
    if train.modality == "image":
        payloads = [image_pixels(value) for value in payloads]
    made = {name: backbone_source(name)().make(payloads, 0) for name in backbone_choices(train.modality)}
    embeddings = {
        name: embed_column(item.onnx, payload_inputs(item, train.column), train.payload)
        for name, item in made.items()
    }
    return replace(train, embeddings=embeddings, backbones=made)


def head(train: TrainingSamples) -> FittedModel:
    """Fit the recipe of heads on every backbone of the modality."""
    found: FittedModel = estimator("samples.heads")().fit(embedded(train), None, Budget(600), 0)
    return found


def main() -> int:
    """Run one set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(MODALITIES))
    parser.add_argument("--budgets", default="60,240", help="CPU-seconds, comma separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that gets the graphs")
    arguments = parser.parse_args()
    train, test = load(arguments.name)
    facts = {"set": arguments.name, "train": train.rows, "test": test.rows, "seed": arguments.seed}
    start = time.process_time()
    below = head(train)
    cpu = round(time.process_time() - start, 1)
    record(
        {**facts, "model": "head", "cpu_s": cpu, **measured(below, test), "how": below.diagnostics["chosen"]}
    )
    for budget_s in [float(item) for item in arguments.budgets.split(",")]:
        recipe = estimator(RECIPES[train.modality])(limits=Limits(latency_ms=10.0, budget_s=budget_s))
        start = time.process_time()
        model = recipe.fit(train, None, Budget(budget_s), arguments.seed)
        cpu = round(time.process_time() - start, 1)
        found = measured(model, test)
        how = f"against the head {against(model, below, test)}; {model.diagnostics['chosen']}; "
        how += model.diagnostics["stopped"] or "whole plan"
        record(
            {
                **facts,
                "model": f"network@{budget_s:g}s",
                "budget_s": budget_s,
                "cpu_s": cpu,
                **found,
                "how": how,
            }
        )
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            (arguments.keep / f"{arguments.name}-{budget_s:g}.onnx").write_bytes(model.onnx)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
