"""A small student of a larger teacher, and int8 in place of FP32, on one set.

    OMP_NUM_THREADS=1 python -m benchmarks.deep.small cifar10_6k --teacher 400 --student 150

The student and the plain network of the same width have the same budget; int8 is timed against FP32 in turns.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.deep.measure import measured, record
from benchmarks.deep.run import RECIPES, embedded
from benchmarks.deep.sets import MODALITIES, load
from modelworks.algorithms.deep.distil import ensemble_teacher, fit_student, head_teacher
from modelworks.algorithms.plugins import estimator
from modelworks.algorithms.quantise import Judged, choose_precision
from modelworks.core.budget import Budget
from modelworks.core.estimator import FittedModel
from modelworks.core.task import Bound, Limits
from modelworks.data.samples.training import TrainingSamples


def int8(model: FittedModel, train: TrainingSamples, floor: float, margin: float) -> tuple[FittedModel, Any]:
    """Decide on int8 with the gate ``accuracy >= floor`` on the validation fold, as the line does."""
    held = train.take(np.flatnonzero(train.folds == 0))
    rest = train.take(np.flatnonzero(train.folds != 0))
    judged = Judged(
        payload=held.payload, target=held.target, kind=held.kind, classes=held.classes, metric="accuracy",
        gate=(Bound.parse("accuracy", f">= {floor}"),), margin=margin,
    )  # fmt: skip
    found = choose_precision(model, rest.payload, judged, Budget(600))
    return found, found.diagnostics["int8"]


def main() -> int:
    """Run one set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(MODALITIES))
    parser.add_argument("--teacher", type=float, default=400.0, help="CPU-seconds of the ensemble")
    parser.add_argument(
        "--student", type=float, default=150.0, help="CPU-seconds of the student, and of the plain network"
    )
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--wide", type=int, default=32)
    parser.add_argument("--floor", type=float, default=0.2, help="accuracy that the int8 gate asks for")
    parser.add_argument("--margin", type=float, default=0.02, help="accuracy that int8 may lose at most")
    parser.add_argument("--parts", default="plain,head,ensemble,wide", help="what is run")
    arguments = parser.parse_args()
    train, test = load(arguments.name)
    facts = {"set": arguments.name, "train": train.rows, "test": test.rows, "seed": 0}
    make = estimator(RECIPES[train.modality])
    limits = Limits(latency_ms=10.0)
    small = make(width=arguments.width, trials=0, limits=limits)

    def show(name: str, model: FittedModel, start: float, **more: Any) -> None:
        cpu = round(time.process_time() - start, 1)
        record({**facts, "model": name, "cpu_s": cpu, **measured(model, test), **more})

    def quantised(model: FittedModel) -> None:
        start = time.process_time()
        kept, why = int8(model, train, arguments.floor, arguments.margin)
        show("its int8", kept, start, kept=why["kept"], how=why["why"], speed=why.get("speed"))

    parts = arguments.parts.split(",")
    if "plain" in parts:
        start = time.process_time()
        plain = small.fit(train, None, Budget(arguments.student), 0)
        how = plain.diagnostics["chosen"]
        show(f"plain width {arguments.width}", plain, start, budget_s=arguments.student, how=how)
        quantised(plain)
    rows = small.rows(embedded(train) if "head" in parts else train, None, Budget(600))
    teachers = [head_teacher(rows)] if "head" in parts else []
    wide = make(width=arguments.wide, trials=0, limits=limits)
    if "ensemble" in parts:
        start = time.process_time()
        teacher = ensemble_teacher(wide, rows, Budget(arguments.teacher), 0)
        cpu = round(time.process_time() - start, 1)
        scores = teacher.scores(rows.door.exact(test.payload, Budget(600)), rows.problem.outputs)
        codes = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)
        right = round(float(np.mean(codes == test.target)), 4)
        record(
            {
                **facts,
                "model": f"teacher: {teacher.name}",
                "cpu_s": cpu,
                "accuracy": right,
                "how": "mean of scores",
            }
        )
        teachers.append(teacher)
    for teacher in teachers:
        start = time.process_time()
        taught = fit_student(small, rows, teacher, Budget(arguments.student), 0)
        told = taught.diagnostics["teacher"]
        how = f"out-of-fold log loss of the teacher {told['out_of_fold_loss']:.3f}, share {told['share']}"
        show(f"student of {teacher.name}", taught, start, budget_s=arguments.student, how=how)
    if "wide" in parts:
        start = time.process_time()
        big = wide.fit(train, None, Budget(arguments.student), 0)
        how = big.diagnostics["chosen"]
        show(f"plain width {arguments.wide}", big, start, budget_s=arguments.student, how=how)
        quantised(big)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
