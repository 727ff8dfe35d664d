"""The recipe for samples: every task of a line gets a head in one stacked pass, on the backbone that suits it best."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.samples.head import FittedHead, linear_head
from modelworks.core.budget import Budget
from modelworks.core.errors import ModelworksError, TaskError
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.task import Limits, TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.training.heads import MISSING, HeadTask, LinearHead, fit_heads

KINDS = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL, TaskKind.REGRESSION})
LEAST = 2
"""Labelled samples each class needs."""


@dataclass(frozen=True, kw_only=True)
class SampleHeads:
    """Configuration.

    Attributes:
        limits: What the shipped model may cost.
        metric: Metric of the task, or ``None``.
    """

    limits: Limits = field(default_factory=Limits)
    metric: str | None = None

    @property
    def card(self) -> Card:
        """What the recipe is."""
        return Card(
            name="samples.heads",
            version=2,
            kinds=KINDS,
            summary="Ridge heads with exact leave-one-out choice and calibration on shared embeddings.",
            source="Allen (1974), PRESS; Rifkin & Lippert (2007), Notes on regularized least squares; Platt (1999)",
        )

    def fit(
        self, train: TrainingSamples, valid: TrainingSamples | None, budget: Budget, seed: int
    ) -> FittedModel:
        """Fit one task; see ``fit_all``.

        Raises:
            TaskError: The labels do not suffice.
        """
        (found,) = self.fit_all([train], budget, seed)
        if isinstance(found, ModelworksError):
            raise found
        return found.fused(train.backbones[found.backbone], train.column)

    def fit_all(
        self, tasks: Sequence[TrainingSamples], budget: Budget, seed: int
    ) -> list[FittedHead | ModelworksError]:
        """Fit a head for every task; each takes the backbone with the least leave-one-out loss.

        Args:
            tasks: Tasks over the same rows: their ``embeddings``, ``backbones`` and ``payload`` are the first one's.
                A row may be unlabelled for a task: class code -1, NaN, or 255 for one label of several.
            budget: Checked between backbones.
            seed: Not used: nothing here is left to chance.

        Returns:
            One head per task in their order, or the error that stands in its way.
        """
        plans = [_plan(task) for task in tasks]
        able = [plan for plan in plans if isinstance(plan, _Plan)]
        best: dict[int, tuple[float, str, list[LinearHead]]] = {}
        tried: dict[int, list[dict[str, Any]]] = {id(plan): [] for plan in able}
        for name, embeddings in tasks[0].embeddings.items() if able else ():
            budget.check()
            start = time.process_time()
            heads = fit_heads(embeddings, [part for plan in able for part in plan.parts])
            share = (time.process_time() - start) / len(able)
            for plan in able:
                own, heads = heads[: len(plan.parts)], heads[len(plan.parts) :]
                loss = float(np.average([head.loss for head in own], weights=[head.rows for head in own]))
                tried[id(plan)].append({"name": name, "oof_loss": loss, "cpu_s": share})
                if id(plan) not in best or loss < best[id(plan)][0]:
                    best[id(plan)] = (loss, name, own)
        return [
            plan if isinstance(plan, ModelworksError) else _finish(plan, *best[id(plan)], tried[id(plan)])
            for plan in plans
        ]


@dataclass(frozen=True, eq=False)
class _Plan:
    task: TrainingSamples
    parts: list[HeadTask]
    constant: dict[int, float]


def _plan(task: TrainingSamples) -> _Plan | ModelworksError:
    """Return a task as stacked columns: one per class, or one two-class task per label."""
    target: npt.NDArray[Any] = task.target
    if task.kind is not TaskKind.MULTILABEL:
        classes = 0 if task.kind is TaskKind.REGRESSION else len(task.classes)
        part = HeadTask(name="", labels=target, classes=classes)
        problem = _problem(part, task.classes)
        return problem or _Plan(task, [part], {})
    parts, constant = [], {}
    for index in range(target.shape[1]):
        labels = np.where(target[:, index] == MISSING, -1, target[:, index].astype(np.int64))
        part = HeadTask(name="", labels=labels, classes=2)
        if _problem(part, ("no", "yes")) is None:
            parts.append(part)
        else:
            known = labels[labels >= 0]
            constant[index] = float((known.sum() + 0.5) / (len(known) + 1))
    if not parts:
        return TaskError(
            "No label has at least two known samples of either value.",
            code="MW1231",
            hint="label more samples",
        )
    return _Plan(task, parts, constant)


def _problem(part: HeadTask, classes: Sequence[str]) -> TaskError | None:
    known = part.labels[part.labelled]
    if part.classes == 0:
        if len(known) >= LEAST and float(np.ptp(known)) > 0:
            return None
        return TaskError("The training samples hold fewer than two different values.", code="MW1231")
    counts = np.bincount(known.astype(np.int64), minlength=part.classes)
    if np.sum(counts >= LEAST) >= 2:
        return None
    scarce = [name for name, count in zip(classes, counts, strict=True) if count < LEAST]
    return TaskError(
        f"{len(scarce)} of {len(classes)} classes have fewer than {LEAST} training samples: "
        f"{', '.join(scarce[:5])}.",
        code="MW1231",
        hint="label more samples of them, or leave them out",
    )


def _finish(
    plan: _Plan, loss: float, name: str, heads: list[LinearHead], tried: list[dict[str, Any]]
) -> FittedHead:
    task = plan.task
    width = heads[0].weights.shape[0]
    if task.kind is TaskKind.MULTILABEL:
        weights = np.zeros((width, len(task.classes)), np.float32)
        bias = np.zeros(len(task.classes), np.float32)
        fitted = iter(heads)
        for index in range(len(task.classes)):
            if index in plan.constant:
                chance = plan.constant[index]
                bias[index] = np.log(chance / (1 - chance))
            else:
                head = next(fitted)
                weights[:, index], bias[index] = head.weights[:, 0], head.bias[0]
    else:
        weights, bias = heads[0].weights, heads[0].bias
    onnx, outputs = linear_head(task.kind, weights, bias, task.classes)
    measure = "mean squared error" if task.kind is TaskKind.REGRESSION else "log loss"
    others = ", ".join(f"{item['name']} {item['oof_loss']:.4g}" for item in tried if item["name"] != name)
    chosen = f"linear head on {name}: leave-one-out {measure} {loss:.4g}"
    return FittedHead(
        onnx=onnx,
        backbone=name,
        outputs=outputs,
        classes=task.classes,
        diagnostics={
            "members": [
                {**item, "weight": float(item["name"] == name), "kept": item["name"] == name}
                for item in tried
            ],
            "oof_loss": loss,
            "chosen": chosen + (f" (others: {others})" if others else ""),
            "backbone": {"name": name, "digest": task.backbones[name].digest},
            "penalty": [head.penalty for head in heads][:20],
        },
    )
