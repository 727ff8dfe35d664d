"""From a training table to the feature-free problem its members learn."""

from __future__ import annotations

import numpy as np

from modelworks.core.errors import TaskError
from modelworks.core.task import TaskKind
from modelworks.data import TrainingTable
from modelworks.data.samples.training import TrainingSamples
from modelworks.training.problem import Problem

SUPPORTED = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION, TaskKind.MULTILABEL})


def problem_of(table: TrainingTable | TrainingSamples) -> Problem:
    """Return the problem of training rows whose target is known; a regression target is standardised.

    Raises:
        TaskError: The kind cannot be learned from a table.
    """
    if table.kind not in SUPPORTED:
        raise TaskError(
            f"A recipe of this kind cannot do '{table.kind}'.",
            code="MW1239",
            hint="kinds: " + ", ".join(sorted(SUPPORTED)),
        )
    weight = None
    if table.weight is not None:
        weight = table.weight.astype(np.float64)
        weight = weight / weight.mean()
    if table.kind is not TaskKind.REGRESSION:
        return Problem(
            kind=table.kind,
            target=table.target,
            folds=table.folds,
            classes=len(table.classes),
            weight=weight,
        )
    target = table.target.astype(np.float64)
    centre = float(np.average(target, weights=weight))
    spread = float(np.sqrt(np.average(np.square(target - centre), weights=weight))) or 1.0
    return Problem(
        kind=table.kind,
        target=(target - centre) / spread,
        folds=table.folds,
        classes=0,
        weight=weight,
        centre=centre,
        spread=spread,
    )
