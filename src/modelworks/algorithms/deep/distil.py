"""Distillation: a teacher's out-of-fold chances, mixed into the labels that a small student learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.deep.fitting import Common, Design, Rowset, fit_network, planned_epochs
from modelworks.core.budget import Budget
from modelworks.core.errors import DataError
from modelworks.core.estimator import FittedModel
from modelworks.core.task import TaskKind
from modelworks.training.deep.examples import Examples, Floats
from modelworks.training.heads.ridge import fit_heads
from modelworks.training.heads.task import HeadTask
from modelworks.training.problem import Problem, sigmoid, softmax


@dataclass(frozen=True)
class Teacher:
    """What a student learns from beside the labels.

    Attributes:
        name: What the teacher is.
        chances: ``float32 [labelled rows, outputs]`` in the form of ``Examples.target``; the chances of a row come from
            parts of the teacher that never saw it.
        loss: Mean loss of these chances.
        networks: The networks of an ensemble.
    """

    name: str
    chances: Floats
    loss: float
    networks: tuple[Any, ...] = ()

    def scores(self, inputs: npt.NDArray[Any], outputs: int) -> Floats:
        """Return the mean scores of the networks on new inputs ``[n, outputs]``."""
        from modelworks.training.deep.prediction import predict

        nothing = np.zeros((len(inputs), outputs), np.float32)
        rows = Examples(inputs=inputs, target=nothing, known=nothing, weight=nothing[:, 0], loss="softmax")
        found = np.stack([predict(network, rows) for network in self.networks])
        return np.asarray(found.mean(axis=0), np.float32)


def ensemble_teacher(recipe: Common, rows: Rowset, budget: Budget, seed: int) -> Teacher:
    """Train one network per fold on the other folds; every row is scored by the one that has not seen it.

    Args:
        recipe: A deep recipe, larger than the student's.
        rows: The student's rows; both read payloads through one door.
        budget: Shared equally by the networks.
        seed: Seed of the first network; each has its own.

    Raises:
        DataError: The rows have fewer than three folds.
        BudgetStopped: The budget ended before every network had its first pass.

    Source: Hinton, Vinyals & Dean (2015), Distilling the knowledge in a neural network.
    """
    from modelworks.training.deep.loop import train_network
    from modelworks.training.deep.prediction import predict

    maker: Any = recipe
    folds = rows.samples.folds
    numbers = np.unique(folds)
    if len(numbers) < 3:
        raise DataError(f"A teacher out of fold needs three folds, there are {len(numbers)}.", code="MW1146")
    scores = np.zeros((rows.samples.rows, rows.problem.outputs))
    share = budget.cpu_s / len(numbers)
    design: Design = maker.design(rows, share)
    networks = []
    for place, fold in enumerate(numbers):
        stop = folds == numbers[(place + 1) % len(numbers)]
        learn = np.flatnonzero((folds != fold) & ~stop)
        plan = replace(design.plan, epochs=planned_epochs(design, recipe, share, len(learn)))
        trained = train_network(
            design.spec, rows.examples.take(learn), rows.examples.take(np.flatnonzero(stop)), plan,
            budget=budget.part(share), seed=seed + place,
        )  # fmt: skip
        held = np.flatnonzero(folds == fold)
        scores[held] = predict(trained.network, rows.examples.take(held))
        networks.append(trained.network)
    spec = design.spec
    return Teacher(
        f"{len(numbers)} {spec.kind} networks of width {spec.width}",
        _targets(scores, rows.problem),
        rows.problem.loss(scores),
        tuple(networks),
    )


def head_teacher(rows: Rowset) -> Teacher:
    """Take the calibrated leave-one-out answers of the best ridge head on the shared embeddings as the teacher.

    Raises:
        DataError: The samples carry no embeddings, or the kind is multilabel.
    """
    samples, problem = rows.samples, rows.problem
    if not samples.embeddings or problem.kind is TaskKind.MULTILABEL:
        raise DataError("A head teaches one-label tasks on samples that carry embeddings.", code="MW1147")
    labels: Any = problem.target
    classes = 0 if problem.kind is TaskKind.REGRESSION else max(problem.classes, 2)
    heads = {
        name: fit_heads(values, [HeadTask(name="", labels=labels, classes=classes)])[0]
        for name, values in samples.embeddings.items()
    }
    name = min(heads, key=lambda item: heads[item].loss)
    scores = heads[name].left_out.astype(np.float64)
    return Teacher(f"ridge head on {name}", _targets(scores, problem), problem.loss(scores))


def fit_student(
    recipe: Common, rows: Rowset, teacher: Teacher, budget: Budget, seed: int, *, share: float = 0.7
) -> FittedModel:
    """Fit a small recipe to labels that are mixed with its teacher's chances.

    The epoch is still chosen, and the student calibrated, by the true labels of its validation rows.

    Args:
        recipe: The student.
        rows: What ``recipe.rows`` read; the teacher was made from the same.
        teacher: Its chances.
        budget: CPU-seconds of the student alone.
        seed: Seed of every random choice.
        share: Weight of the teacher's chances.
    """
    maker: Any = recipe
    target = rows.examples.target.copy()
    part = rows.train
    target[part] = (1 - share) * target[part] + share * teacher.chances[part]
    mixed = replace(rows, examples=rows.examples.with_target(target))
    model, _ = fit_network(mixed, maker.design(rows, budget.cpu_s), recipe, budget, seed)
    model.diagnostics["teacher"] = {"name": teacher.name, "out_of_fold_loss": teacher.loss, "share": share}
    return model


def _targets(scores: npt.NDArray[np.float64], problem: Problem) -> Floats:
    if problem.kind is TaskKind.MULTICLASS:
        return softmax(scores).astype(np.float32)
    if problem.kind is TaskKind.REGRESSION:
        return scores.astype(np.float32)
    return sigmoid(scores).astype(np.float32)
