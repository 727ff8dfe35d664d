"""The int8 gate on networks trained here: what it says of each, with the figures it decided by.

    OMP_NUM_THREADS=1 python -m benchmarks.deep.int8 [--sets trashnet_half,ArrowHead] [--budget 60]

Each network is trained with its default settings; the gate of ``algorithms.quantise`` then compares the int8 graph with
the float one on validation rows, with the product's margin and no further bound. What it keeps is scored on the test
part beside the float graph: the gate saw none of it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.deep.measure import against, measured, record
from benchmarks.deep.run import RECIPES
from benchmarks.deep.sets import MODALITIES, load
from modelworks.algorithms.plugins import estimator
from modelworks.algorithms.quantise import Judged, choose_precision
from modelworks.core.budget import Budget
from modelworks.core.estimator import FittedModel
from modelworks.core.task import Limits
from modelworks.data.samples.training import TrainingSamples

RESULTS = Path(__file__).parent / "results" / "2026-11-26-int8.jsonl"


def decided(model: FittedModel, train: TrainingSamples) -> tuple[FittedModel, dict[str, Any]]:
    """Return what ships and the facts of the last attempt; validation rows are the first fold."""
    held = train.take(np.flatnonzero(train.folds == 0))
    rest = train.take(np.flatnonzero(train.folds != 0))
    judged = Judged(
        payload=held.payload, target=held.target, kind=held.kind, classes=held.classes, metric="accuracy"
    )
    shipped = choose_precision(model, rest.payload, judged, Budget(600))
    return shipped, shipped.diagnostics["int8"]


def rows_of(
    model: FittedModel, shipped: FittedModel, facts: dict[str, Any], test: TrainingSamples
) -> list[dict[str, Any]]:
    """Return one row per attempt: verdict, cause, quality and speed on validation rows."""
    found = []
    for attempt in [item for item in (facts.get("before"), facts) if item]:
        row = {"kept": attempt["kept"], "cause": attempt["why"], "first_layer": attempt.get("first_layer")}
        row |= {"validation": attempt.get("quality"), "speed": attempt.get("speed")}
        row |= {"size_mb": attempt.get("size_mb"), "float_size_mb": attempt.get("float_size_mb")}
        found.append(row)
    if facts["kept"]:
        found[-1] |= {"on_test": measured(shipped, test), "test_difference": against(shipped, model, test)}
    return found


def main() -> int:
    """Train, decide, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default="trashnet_half,ArrowHead")
    parser.add_argument("--budget", type=float, default=60.0, help="CPU-seconds of a network")
    given = parser.parse_args()
    for name in given.sets.split(","):
        if name not in MODALITIES:
            parser.error(f"there is no set '{name}': " + ", ".join(sorted(MODALITIES)))
        train, test = load(name)
        recipe = estimator(RECIPES[train.modality])
        start = time.process_time()
        model = recipe(trials=0, limits=Limits(latency_ms=10.0)).fit(train, None, Budget(given.budget), 0)
        facts = {"set": name, "train": train.rows, "test": test.rows}
        cpu = round(time.process_time() - start, 1)
        record({**facts, "model": "float32", "cpu_s": cpu, **measured(model, test)}, RESULTS)
        shipped, told = decided(model, train)
        for row in rows_of(model, shipped, told, test):
            record({**facts, "model": "int8", **row}, RESULTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
