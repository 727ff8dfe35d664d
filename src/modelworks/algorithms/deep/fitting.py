"""What the deep recipes share: rows, a design that fits the budget, search, training, calibration and the graph."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.deep.doors import Door
from modelworks.algorithms.deep.export import exported_body, parity, write_model
from modelworks.algorithms.tables.outputs import native_outputs
from modelworks.algorithms.tables.problem import problem_of
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import TaskError
from modelworks.core.estimator import FittedModel
from modelworks.core.task import Limits, TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.training.decision import Decision, choose_decision
from modelworks.training.deep.examples import Examples, Floats, Rows, examples_of
from modelworks.training.deep.library import load_torch
from modelworks.training.deep.plan import Plan
from modelworks.training.deep.search import Choice, Found, Judge, Settings, search
from modelworks.training.problem import Problem

KINDS = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL, TaskKind.REGRESSION})
LEAST_ROWS = 16
_PARITY_ROWS = 48
_SPEND = 0.8
"""Share of the budget that planned training may take; the rest is for reading, judging and the graph."""
_SEARCH_FROM = 60
"""Passes over the rows that the budget must allow before some of them go into a search."""


@dataclass(frozen=True, kw_only=True)
class Common(ABC):
    """Settings of every deep recipe.

    Attributes:
        limits: What the shipped model may cost.
        metric: Metric of the task; steers the decision threshold.
        epochs: Passes over the rows; 0 = what the budget allows.
        trials: Trials of the search for learning rate and variation; ``None`` = what the budget allows, 0 = none.
        width: Channels of the first stage; 0 = what budget and latency allow.
        balanced: Give all classes the same weight.
        precision: ``auto``, ``fp32`` or ``bf16``.
        threads: Threads of one operation; results are equal only for equal numbers.
        checkpoint: File that training goes on from after a stop; empty = none.
    """

    limits: Limits = field(default_factory=Limits)
    metric: str | None = None
    epochs: int = 0
    trials: int | None = None
    width: int = 0
    balanced: bool = False
    precision: Any = "auto"
    threads: int = 1
    checkpoint: str = ""

    @abstractmethod
    def door(self, payloads: npt.NDArray[Any]) -> Door:
        """Return the way from payloads to inputs of the network, fitted on payloads ``[rows]`` to learn from."""

    @abstractmethod
    def design(self, rows: Rowset, budget_s: float) -> Design:
        """Return the network and its training for some rows and a budget in CPU-seconds."""

    def rows(self, train: TrainingSamples, valid: TrainingSamples | None, budget: Budget) -> Rowset:
        """Read the rows of a task."""
        return read_rows(train, valid, self.door, budget, balanced=self.balanced)

    def fit(
        self, train: TrainingSamples, valid: TrainingSamples | None, budget: Budget, seed: int
    ) -> FittedModel:
        """Fit one task; see ``core.estimator.Estimator``.

        Raises:
            MissingExtra: PyTorch is not installed.
            TaskError: The labels do not suffice.
        """
        return self.fit_native(train, valid, budget, seed)[0]

    def fit_native(
        self, train: TrainingSamples, valid: TrainingSamples | None, budget: Budget, seed: int
    ) -> tuple[FittedModel, Native]:
        """Fit a model and return the network beside its graph."""
        load_torch()
        rows = self.rows(train, valid, budget)
        return fit_network(rows, self.design(rows, budget.cpu_s), self, budget, seed)


@dataclass(frozen=True)
class Rowset:
    """The labelled rows of a task as a network sees them.

    Attributes:
        samples: The labelled rows.
        problem: Their target.
        door: From payloads to inputs.
        examples: All rows as examples.
        train, valid: Row numbers to learn from and to choose by.
    """

    samples: TrainingSamples
    problem: Problem
    door: Door
    examples: Examples
    train: Rows
    valid: Rows


@dataclass(frozen=True, kw_only=True)
class Design:
    """A network and how it is trained.

    Attributes:
        spec: The network.
        plan: The training.
        space: What a search may change.
        apply: Returns the plan with settings of the search.
        row_cost_s: Declared CPU-seconds of one row in one pass.
        most_epochs: Passes after which more do not help.
    """

    spec: Any
    plan: Plan
    space: tuple[Choice, ...]
    apply: Callable[[Plan, Settings], Plan]
    first: Settings
    row_cost_s: float
    most_epochs: int


@dataclass(frozen=True)
class Native:
    """The trained network with all that turns its scores into answers, for those who compare it with its graph."""

    network: Any
    door: Door
    problem: Problem
    classes: tuple[str, ...]
    decision: Decision
    scale: float
    budget: Budget

    def scores(self, payloads: Sequence[Any] | npt.NDArray[Any]) -> Floats:
        """Return calibrated scores ``[n, outputs]``."""
        from modelworks.training.deep.prediction import predict

        inputs = self.door.exact(payloads, self.budget)
        nothing = np.zeros((len(inputs), self.problem.outputs), np.float32)
        rows = Examples(inputs=inputs, target=nothing, known=nothing, weight=nothing[:, 0], loss="softmax")
        return predict(self.network, rows, batch=64) * np.float32(self.scale)

    def predict(self, columns: dict[str, npt.NDArray[Any]], rows: int) -> dict[str, npt.NDArray[Any]]:
        """Return the public outputs computed without a graph (but for the preprocessing)."""
        payloads = next(iter(columns.values()))[:rows]
        scores = self.scores(payloads).astype(np.float64)
        return dict(native_outputs(scores, self.problem, self.classes, self.decision))


def read_rows(
    train: TrainingSamples,
    valid: TrainingSamples | None,
    make_door: Callable[[npt.NDArray[Any]], Door],
    budget: Budget,
    *,
    balanced: bool = False,
) -> Rowset:
    """Keep the labelled rows, part them, learn the door on the training rows and read all payloads once.

    Without ``valid`` the first fold of ``train`` is what training is chosen by.

    Raises:
        TaskError: The labels do not suffice.
    """
    if train.kind not in KINDS:
        raise TaskError(
            f"A deep recipe cannot do '{train.kind}'.",
            code="MW1239",
            hint="kinds: " + ", ".join(sorted(KINDS)),
        )
    samples = train.take(labelled_rows(train))
    if valid is not None:
        samples = _joined(samples, valid.take(labelled_rows(valid)))
    numbers = np.unique(samples.folds)
    inside = samples.folds == numbers[0] if len(numbers) > 1 else np.arange(samples.rows) % 5 == 0
    learn, choose = np.flatnonzero(~inside), np.flatnonzero(inside)
    if len(learn) < LEAST_ROWS or len(choose) < 2:
        raise TaskError(
            f"A network needs at least {LEAST_ROWS} labelled training rows and 2 to choose by; there are {len(learn)} "
            f"and {len(choose)}.",
            code="MW1233",
            hint="label more samples, or keep the head",
        )
    budget.check()
    problem = problem_of(samples)
    door = make_door(samples.payload[learn])
    inputs = door.read(samples.payload, budget)
    return Rowset(samples, problem, door, examples_of(problem, inputs, balanced=balanced), learn, choose)


def labelled_rows(samples: TrainingSamples) -> npt.NDArray[np.int64]:
    """Return the rows that carry a label: no code -1, no NaN, at least one known label of several."""
    target: npt.NDArray[Any] = samples.target
    if samples.kind is TaskKind.MULTILABEL:
        return np.flatnonzero((target != 255).any(axis=1))
    if samples.kind is TaskKind.REGRESSION:
        return np.flatnonzero(np.isfinite(target))
    return np.flatnonzero(target >= 0)


def _joined(train: TrainingSamples, valid: TrainingSamples) -> TrainingSamples:
    weights = None
    if train.weight is not None and valid.weight is not None:
        weights = np.concatenate([valid.weight, train.weight])
    return TrainingSamples(
        payload=np.concatenate([valid.payload, train.payload]),
        column=train.column,
        modality=train.modality,
        kind=train.kind,
        target=np.concatenate([valid.target, train.target]),
        classes=train.classes,
        weight=weights,
        folds=np.repeat(np.array([0, 1], np.int8), [valid.rows, train.rows]),
    )


def fit_network(
    rows: Rowset, design: Design, common: Common, budget: Budget, seed: int
) -> tuple[FittedModel, Native]:
    """Search if the budget allows it, train, calibrate, write the graph and compare it with the network.

    How long is trained follows from the budget and a declared cost, not from the clock, so that one seed and one
    budget give one result; the clock only ends what would break the budget.

    Raises:
        BudgetStopped: The budget ended before the first pass.
        Cancelled: The budget was cancelled.
        ExecutionError: The graph does not give the network's answers.
    """
    from modelworks.training.deep.loop import Saving, train_network
    from modelworks.training.deep.prediction import predict

    parts: dict[str, float] = {}
    mark = time.process_time()
    learn, choose = rows.examples.take(rows.train), rows.examples.take(rows.valid)
    trials, trial_epochs, epochs = _passes(design, common, budget.cpu_s, len(rows.train))
    plan = replace(design.plan, precision=common.precision, threads=common.threads, epochs=epochs)
    found: Found | None = None
    if trials > 1:

        def evaluate(settings: Settings, judge: Judge) -> float:
            tried = design.apply(replace(plan, epochs=trial_epochs), settings)
            part = budget.part(budget.left_s * 0.5)
            trained = train_network(design.spec, learn, choose, tried, budget=part, seed=seed, judge=judge)
            return min(line["valid_loss"] for line in trained.history)

        found = search(evaluate, design.space, design.first, trials=trials, budget=budget, seed=seed)
        plan = design.apply(plan, found.best)
    parts["search"], mark = time.process_time() - mark, time.process_time()
    saving = Saving(path=Path(common.checkpoint)) if common.checkpoint else None
    trained = train_network(design.spec, learn, choose, plan, budget=budget, seed=seed, saving=saving)
    parts["train"], mark = time.process_time() - mark, time.process_time()
    scores = predict(trained.network, choose).astype(np.float64)
    model, native = finish(rows, trained.network, design.spec, scores, common, budget)
    parts["graph"] = time.process_time() - mark
    best = [line for line in trained.history if line["epoch"] == trained.best_epoch]
    model.diagnostics.update(
        {
            "network": design.spec.to_json(),
            "plan": plan.to_json(),
            "training": trained.to_json(),
            "search": None if found is None else {"trials": found.trials, "stopped": found.stopped},
            "stopped": trained.stopped,
            "cpu_parts": {name: round(seconds, 2) for name, seconds in parts.items()},
            "chosen": f"{design.spec.kind} network of width {design.spec.width}, epoch {trained.best_epoch} of "
            f"{plan.epochs}: validation loss {best[0]['valid_loss'] if best else float('nan'):.4g}",
        }
    )
    return model, native


def _passes(design: Design, common: Common, budget_s: float, rows: int) -> tuple[int, int, int]:
    """Return the trials of the search, the epochs of one trial and the epochs of the training."""
    passes = planned_passes(design.row_cost_s, budget_s, rows)
    most = common.epochs or design.most_epochs
    if common.trials == 0 or (common.trials is None and passes < _SEARCH_FROM):
        return 0, 0, common.epochs or int(np.clip(passes, 2, most))
    short = int(np.clip(passes / 24, 2, max(2, most // 4)))
    trials = common.trials if common.trials is not None else int(np.clip(0.4 * passes / short, 2, 12))
    return trials, short, common.epochs or int(np.clip(0.6 * passes, 2, most))


def planned_passes(row_cost_s: float, budget_s: float, rows: int) -> float:
    """Return the passes over the rows that a budget allows, by the declared cost of a row."""
    return min(_SPEND * budget_s / max(row_cost_s * rows, 1e-9), 1e6)


def batch_for(rows: int, passes: float) -> int:
    """Return a batch of 16 to 64 rows that leaves a short training about 1,500 steps."""
    return int(np.clip(rows * passes / 1500 // 8 * 8, min(16, max(4, rows // 8)), min(64, max(8, rows // 8))))


def planned_epochs(design: Design, common: Common, budget_s: float, rows: int) -> int:
    """Return the epochs of a training without a search that a budget allows."""
    return _passes(design, replace(common, trials=0), budget_s, rows)[2]


def finish(
    rows: Rowset, network: Any, spec: Any, scores: npt.NDArray[np.float64], common: Common, budget: Budget
) -> tuple[FittedModel, Native]:
    """Calibrate a network on the scores of its validation rows and write its graph.

    Source: Guo et al. (2017), On calibration of modern neural networks (temperature scaling).
    """
    problem = rows.problem
    scale = temperature_scale(problem, scores, rows.valid)
    decision = choose_decision(problem, scores * scale, rows.valid, common.metric)
    body = exported_body(network, spec.sample())
    classes = rows.samples.classes
    onnx, signature = write_model(rows.door, rows.samples.column, body, problem, classes, decision, scale)
    native = Native(network, rows.door, problem, classes, decision, scale, budget.grace())
    chosen = np.unique(np.linspace(0, rows.samples.rows - 1, _PARITY_ROWS).astype(np.int64))
    columns = {rows.samples.column: rows.samples.payload[chosen]}
    written = answer(GraphSession(onnx), signature, columns, len(chosen))
    apart = parity(written, native.predict(columns, len(chosen)), problem.spread)
    loss = problem.loss(scores * scale, rows.valid)
    member = {"name": spec.kind, "oof_loss": problem.reported(loss), "weight": 1.0, "kept": True}
    return FittedModel(
        onnx=onnx,
        signature=signature,
        diagnostics={
            "members": [member],
            "oof_loss": problem.reported(loss),
            "temperature": 1.0 / scale,
            "measured": {"size_mb": len(onnx) / 1e6, "parity": apart, "torch": load_torch().__version__},
        },
    ), native


def temperature_scale(problem: Problem, scores: npt.NDArray[np.float64], rows: Rows) -> float:
    """Return the factor of the scores with the least loss on ``rows`` (1 for regression).

    Its logarithm has a normal prior of spread one half, so that a few rows that all are right prove no certainty.
    """
    if problem.kind is TaskKind.REGRESSION:
        return 1.0
    grid = np.exp(np.linspace(np.log(0.2), np.log(5.0), 81))
    losses = [len(rows) * problem.loss(scores * factor, rows) + 2 * np.log(factor) ** 2 for factor in grid]
    return float(grid[int(np.argmin(losses))])
