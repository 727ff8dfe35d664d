"""The recipe for samples: all tasks of a line are fitted in stacked passes; each takes its best backbone and family."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.samples.decision import choose_decision_of
from modelworks.algorithms.samples.head import FittedHead, head_graph
from modelworks.core.backbone import Backbone
from modelworks.core.budget import Budget
from modelworks.core.errors import ModelworksError, TaskError, close_matches
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.task import Limits, TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.training.heads.choice import FAMILIES, common_rows, fit_families, losses_of, taken
from modelworks.training.heads.fitted import Head
from modelworks.training.heads.forms import LinearForm
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import MISSING, HeadTask

KINDS = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL, TaskKind.REGRESSION})
LEAST = 2
"""Labelled samples each class needs."""
AUTO = "auto"
MEMORY_SHARE = 0.5
"""Share of the size limit that remembered samples may take."""


@dataclass(frozen=True, kw_only=True)
class SampleHeads:
    """Configuration.

    Attributes:
        limits: What the shipped model may cost: a head that remembers samples keeps so many as its size allows.
        metric: Metric of the tasks: ``f1``, ``balanced_accuracy`` and ``mcc`` move the thresholds, ``macro_f1`` favours
            rare classes; ``None`` for the usual one of each kind.
        positive: The class that a metric of two classes means; ``None`` for the second.
        head: Family of the head: ``ridge``, ``self_trained``, ``logistic``, ``prototype``, ``neighbours`` or
            ``network``; ``auto`` takes, task by task, the cheapest that none leads in held-out loss.
    """

    limits: Limits = field(default_factory=Limits)
    metric: str | None = None
    positive: str | None = None
    head: str = AUTO

    @property
    def card(self) -> Card:
        """What the recipe is."""
        return Card(
            name="samples.heads",
            version=8,
            kinds=KINDS,
            summary="Ridge, self-trained, logistic, prototype, neighbour and small network heads on shared embeddings: "
            "another than ridge where its held-out loss leads by two standard errors; calibrated.",
            source="Rifkin & Lippert (2007); Komarek & Moore (2005); Wang et al. (2019), SimpleShot; Platt (1999)",
        )

    def fit(
        self, train: TrainingSamples, valid: TrainingSamples | None, budget: Budget, seed: int
    ) -> FittedModel:
        """Fit one task; see ``fit_all``.

        Raises:
            TaskError: The labels do not suffice, or there is no such family.
        """
        (found,) = self.fit_all([train], budget, seed)
        if isinstance(found, ModelworksError):
            raise found
        return found.fused(train.backbones[found.backbone], train.column)

    def fit_all(
        self, tasks: Sequence[TrainingSamples], budget: Budget, seed: int
    ) -> list[FittedHead | ModelworksError]:
        """Fit heads for every task; each takes the backbone and family with the least held-out loss.

        Args:
            tasks: Tasks over the same rows: their ``embeddings``, ``backbones`` and ``payload`` are the first one's.
                A row may be unlabelled for a task: class code -1, NaN, or 255 for one label of several.
            budget: Checked between backbones, families and steps.
            seed: Start of networks.

        Returns:
            One head per task in their order, or the error that stands in its way.

        Raises:
            TaskError: There is no such family.
        """
        names = tuple(tasks[0].embeddings) if tasks else ()
        return [self._of(plan, names) for plan in self._plans(tasks, budget, seed)]

    def fit_beside(
        self, tasks: Sequence[TrainingSamples], reference: str, named: bool, budget: Budget, seed: int
    ) -> list[tuple[FittedHead | ModelworksError, FittedHead | ModelworksError]]:
        """Fit heads for every task, and beside each the best head on the reference alone; see ``fit_all``.

        Args:
            tasks: See ``fit_all``.
            reference: Backbone of the second heads.
            named: Whether the reference may not be the first one's backbone too, because others are named.
            budget: See ``fit_all``.
            seed: See ``fit_all``.
        """
        names = tuple(name for name in tasks[0].embeddings if not named or name != reference) if tasks else ()
        plans = self._plans(tasks, budget, seed)
        return [(self._of(plan, names), self._of(plan, (reference,))) for plan in plans]

    def _plans(
        self, tasks: Sequence[TrainingSamples], budget: Budget, seed: int
    ) -> list[_Plan | ModelworksError]:
        check_family(self.head)
        plans = [_plan(task) for task in tasks]
        able = [plan for plan in plans if isinstance(plan, _Plan)]
        for name, embeddings in tasks[0].embeddings.items() if able else ():
            budget.check()
            start = time.process_time()
            room = MEMORY_SHARE * self.limits.size_mb * 1e6 - len(tasks[0].backbones[name].onnx)
            heads = fit_families(
                Space(embeddings),
                [part for plan in able for part in plan.parts],
                forced=None if self.head == AUTO else self.head,
                remembered=max(1, int(room / (4 * embeddings.shape[1]))),
                seed=seed,
                budget=budget,
            )
            share = (time.process_time() - start) / len(able)
            for plan in able:
                own, heads = heads[: len(plan.parts)], heads[len(plan.parts) :]
                plan.tried.append((name, share, own))
        return plans

    def _of(self, plan: _Plan | ModelworksError, names: Sequence[str]) -> FittedHead | ModelworksError:
        return plan if isinstance(plan, ModelworksError) else self._finish(plan, names)

    def _finish(self, plan: _Plan, names: Sequence[str]) -> FittedHead:
        task = plan.task
        name, heads, members = plan.best(names)
        fitted = iter(heads)
        width = task.embeddings[name].shape[1]
        forms = [
            _constant(plan.constant[index], width) if index in plan.constant else next(fitted).form
            for index in range(len(plan.constant) + len(heads))
        ]
        decision = choose_decision_of(task, plan.parts, heads, plan.constant, self.metric, self.positive)
        onnx, outputs = head_graph(task.kind, forms, task.classes, decision)
        loss = _weighted([head.loss for head in heads], [head.rows for head in heads])
        families = sorted({head.family for head in heads}, key=FAMILIES.index)
        measure = "mean squared error" if task.kind is TaskKind.REGRESSION else "log loss"
        others = ", ".join(f"{item['name']} {item['oof_loss']:.4g}" for item in members if not item["kept"])
        chosen = f"{' and '.join(families)} head on {name}: held-out {measure} {loss:.4g}"
        return FittedHead(
            onnx=onnx,
            backbone=name,
            outputs=outputs,
            classes=task.classes,
            diagnostics={
                "members": members,
                "oof_loss": loss,
                "chosen": chosen
                + (f" (others: {others})" if others else "")
                + _precision(task.backbones[name]),
                "backbone": {"name": name, "digest": task.backbones[name].digest},
                "head": [{"family": head.family, **head.setting} for head in heads][:20],
                "threshold": list(decision.factors or decision.thresholds)[:20],
            },
        )


def _precision(backbone: Backbone) -> str:
    """Return what became of int8 where the backbone was asked for it."""
    told = backbone.about.get("int8")
    return f"; int8 {'kept' if told['kept'] else 'refused'}: {told['why']}" if told else ""


def check_family(head: str) -> None:
    """Check the name of a family of heads.

    Raises:
        TaskError: There is no such family.
    """
    known = (AUTO, *FAMILIES)
    if head not in known:
        raise TaskError(
            f"There is no head '{head}'.{close_matches(head, known)}",
            code="MW1254",
            hint="--option head=" + "|".join(known),
        )


@dataclass(frozen=True, eq=False)
class _Plan:
    task: TrainingSamples
    parts: list[HeadTask]
    constant: dict[int, float]
    tried: list[tuple[str, float, list[list[Head]]]] = field(default_factory=list)

    def best(self, names: Sequence[str]) -> tuple[str, list[Head], list[dict[str, Any]]]:
        """Return the best of some backbones, the head of every part, and what was compared.

        Losses are those on the samples that all heads of a part held out.
        """
        tried = [item for item in self.tried if item[0] in names]
        weights = [part.known for part in self.parts]
        losses: list[list[dict[str, float]]] = [[] for _ in tried]
        chosen: list[list[Head]] = [[] for _ in tried]
        for index in range(len(self.parts)):
            rows = common_rows([head for _, _, own in tried for head in own[index]])
            for at, (_, _, own) in enumerate(tried):
                found = losses_of(own[index], self.parts[index], rows)
                chosen[at].append(own[index][taken(found, [head.family for head in own[index]])])
                losses[at].append(
                    {
                        head.family: head.loss if each is head.row_losses else float(each.mean())
                        for head, each in zip(own[index], found, strict=True)
                    }
                )
        least = [
            _weighted([values[head.family] for values, head in zip(backbone, heads, strict=True)], weights)
            for backbone, heads in zip(losses, chosen, strict=True)
        ]
        first = int(np.argmin(least))
        name, heads = tried[first][0], chosen[first]
        members = []
        for (backbone, share, _), compared in zip(tried, losses, strict=True):
            for family in (name for name in FAMILIES if any(name in values for values in compared)):
                known = [index for index, values in enumerate(compared) if family in values]
                loss = _weighted(
                    [compared[index][family] for index in known], [weights[index] for index in known]
                )
                kept = backbone == name and any(head.family == family for head in heads)
                members.append(
                    {
                        "name": f"{family} on {backbone}",
                        "oof_loss": loss,
                        "cpu_s": share / len({name for values in compared for name in values}),
                        "weight": float(kept),
                        "kept": kept,
                    }
                )
        return name, heads, members


def _weighted(values: Sequence[float], weights: Sequence[int]) -> float:
    """Return the mean of a few values; without the detour through arrays, which hundreds of tasks would feel."""
    pairs = zip(values, weights, strict=True)
    return math.fsum(value * weight for value, weight in pairs) / sum(weights)


def _constant(chance: float, width: int) -> LinearForm:
    bias = np.array([np.log(chance / (1 - chance))], np.float32)
    return LinearForm(weights=np.zeros((width, 1), np.float32), bias=bias)


def _plan(task: TrainingSamples) -> _Plan | ModelworksError:
    """Return a task as stacked columns: one per class, or one two-class task per label."""
    target: npt.NDArray[Any] = task.target
    if task.kind is not TaskKind.MULTILABEL:
        classes = 0 if task.kind is TaskKind.REGRESSION else len(task.classes)
        part = HeadTask(name="", labels=target, classes=classes, folds=task.folds, grouped=task.grouped)
        problem = _problem(part, task.classes)
        return problem or _Plan(task, [part], {})
    parts, constant = [], {}
    for index in range(target.shape[1]):
        labels = np.where(target[:, index] == MISSING, -1, target[:, index].astype(np.int64))
        part = HeadTask(name="", labels=labels, classes=2, folds=task.folds, grouped=task.grouped)
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
    known = part.labels if part.known == len(part.labels) else part.labels[part.labelled]
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
