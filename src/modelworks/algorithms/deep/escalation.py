"""When a head is not enough: the gate says so on rows held out from training, the budget and the extra allow more."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.deep.fitting import LEAST_ROWS, labelled_rows
from modelworks.algorithms.deep.policy import RECIPES, Policy
from modelworks.algorithms.plugins import estimator
from modelworks.algorithms.quantise import Judged, choose_precision
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession, single_row_latency_ms
from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped, DataError, ExecutionError, TaskError
from modelworks.core.estimator import FittedModel
from modelworks.core.task import Bound, Limits, TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.evaluation import compare, evaluate, find_metric
from modelworks.evaluation.conditions import holds
from modelworks.training.deep.library import EXTRA, torch_is_here

COMMAND = f"pip install 'modelworks[{EXTRA}]'"
LEAST_S = 20.0
"""CPU-seconds below which no network is tried."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it, as plain data in ``diagnostics["escalation"]``.

    Attributes:
        tried: Whether a network was trained.
        chosen: ``head`` or ``network``.
        why: One sentence.
        hint: A command that would change the outcome, or empty.
        head: Metric -> value of the head on the held-out rows.
        network: The same of the network.
        rows: Held-out rows.
    """

    tried: bool
    chosen: Literal["head", "network"]
    why: str
    hint: str = ""
    head: dict[str, float] | None = None
    network: dict[str, float] | None = None
    rows: int = 0


def escalate(
    model: FittedModel, train: TrainingSamples, policy: Policy, budget: Budget, seed: int
) -> FittedModel:
    """Return the model that a task should ship: the head, or a network of its own that does better.

    The head is fitted once more without the first fold of the training rows and held to the gate there; the sealed test
    rows are not looked at. A network is trained on the same rows and must do better on the same held-out ones.

    Args:
        model: The head's model on all training rows.
        train: The training rows with their embeddings and backbones.
        policy: When more is tried.
        budget: What is left for it.
        seed: Seed of every random choice.
    """
    if policy.mode == "never" or train.modality not in RECIPES:
        return _with(model, Outcome(tried=False, chosen="head", why="escalation is switched off"))
    known = train.take(labelled_rows(train))
    inside = known.folds == known.folds.min()
    rest, held = known.take(np.flatnonzero(~inside)), known.take(np.flatnonzero(inside))
    if rest.rows < LEAST_ROWS or held.rows < LEAST_ROWS:
        why = f"{known.rows} labelled rows are too few to train a network and to choose by"
        return _with(model, Outcome(tried=False, chosen="head", why=why))
    before = _answers(estimator("samples.heads")(metric=policy.metric).fit(rest, None, budget, seed), held)
    measured = _measures(before, held, policy, seed)
    missed = [bound for bound in policy.gate if not _holds(bound, held.kind, measured)]
    if policy.mode == "auto" and not missed:
        why = (
            "the head holds the gate on held-out training rows"
            if policy.gate
            else "the task has no gate of its own"
        )
        return _with(model, Outcome(tried=False, chosen="head", why=why, head=measured, rows=held.rows))
    reached = [measured.get(find_metric(bound.metric, held.kind).name, float("nan")) for bound in missed]
    cause = ", ".join(
        f"{bound} (it reaches {value:.3g})" for bound, value in zip(missed, reached, strict=True)
    )
    cause = (
        f"the head misses {cause} on {held.rows} held-out training rows"
        if missed
        else "escalation is always on"
    )
    stop = _cannot(budget)
    if stop:
        outcome = Outcome(
            tried=False, chosen="head", why=f"{cause}; {stop[0]}", hint=stop[1], head=measured, rows=held.rows
        )
        return _with(model, outcome)
    return _contest(model, rest, held, before, measured, cause, policy, budget, seed)


def _contest(
    model: FittedModel, rest: TrainingSamples, held: TrainingSamples, before: dict[str, Any],
    measured: dict[str, float], cause: str, policy: Policy, budget: Budget, seed: int,
) -> FittedModel:  # fmt: skip
    """Train a network and take it if it does better on the held-out rows and keeps the limits."""
    recipe_of = estimator(RECIPES[held.modality])
    has = {item.name for item in fields(recipe_of)}
    own = {name: value for name, value in policy.options if name in has}
    recipe = recipe_of(limits=policy.limits, metric=policy.metric, checkpoint=policy.checkpoint, **own)
    facts: dict[str, Any] = {"head": measured, "rows": held.rows}
    try:
        network = recipe.fit(rest, held, budget, seed)
    except BudgetStopped as error:
        why = f"{cause}; {error.message}"
        return _with(model, Outcome(tried=True, chosen="head", why=why, hint=error.hint or "", **facts))
    except (DataError, TaskError, ExecutionError) as error:
        return _with(
            model, Outcome(tried=True, chosen="head", why=f"{cause}; no network: {error.message}", **facts)
        )
    if policy.int8 == "auto":
        judged = Judged(
            payload=held.payload, target=held.target, kind=held.kind, classes=held.classes, metric=policy.metric,
            gate=policy.gate,
        )  # fmt: skip
        network = choose_precision(network, rest.payload, judged, budget.grace(), seed=seed)
    after = _answers(network, held)
    facts["network"] = _measures(after, held, policy, seed)
    compared = compare(
        held.kind,
        after,
        before,
        held.target,
        held.classes,
        metric=policy.metric,
        weight=held.weight,
        seed=seed,
    )
    figures = (
        f"{compared['metric']} {_number(compared['value'])} against the head's {_number(compared['other'])}"
    )
    over = _over(network, held, policy.limits)
    if over or not (compared["difference"] or 0.0) > 0:
        why = f"{cause}; a network was trained and not taken: {over or figures}"
        kept = _with(model, Outcome(tried=True, chosen="head", why=why, **facts))
        kept.diagnostics["network_tried"] = _short(network)
        return kept
    return _with(
        network,
        Outcome(tried=True, chosen="network", why=f"{cause}; a network does better: {figures}", **facts),
    )


def _cannot(budget: Budget) -> tuple[str, str] | None:
    """Return why no network can be trained here and the command that would change it, or ``None``."""
    if not torch_is_here():
        return "a network of its own needs PyTorch, which is not installed", COMMAND
    if budget.left_s < LEAST_S:
        return (
            f"{budget.left_s:.0f} CPU-seconds of the budget are left and a network needs at least {LEAST_S:.0f}",
            f"--budget {round(budget.cpu_s + 10 * LEAST_S)}s",
        )
    return None


def _answers(model: FittedModel, rows: TrainingSamples) -> dict[str, npt.NDArray[Any]]:
    return answer(GraphSession(model.onnx), model.signature, {rows.column: rows.payload}, rows.rows)


def _measures(
    outputs: dict[str, npt.NDArray[Any]], rows: TrainingSamples, policy: Policy, seed: int
) -> dict[str, float]:
    named = tuple(bound.metric for bound in policy.gate)
    found = evaluate(
        rows.kind,
        outputs,
        rows.target,
        rows.classes,
        metric=policy.metric,
        also=named,
        weight=rows.weight,
        seed=seed,
    )
    return {item["name"]: float(item["value"]) for item in found["measures"]}


def _holds(bound: Bound, kind: TaskKind, measured: dict[str, float]) -> bool:
    name = find_metric(bound.metric, kind).name
    return name in measured and holds(bound, measured[name])


def _over(model: FittedModel, rows: TrainingSamples, limits: Limits) -> str:
    """Say which limit the network breaks, or return an empty text."""
    size = len(model.onnx) / 1e6
    if size > limits.size_mb:
        return f"{size:.1f} MB is over {limits.size_mb:g} MB"
    from modelworks.compute.feeds import batches

    _, feeds = next(batches(model.signature, {rows.column: rows.payload[:1]}, 1))
    latency = single_row_latency_ms(GraphSession(model.onnx), feeds, repeats=50)["p50"]
    return f"{latency:.1f} ms is over {limits.latency_ms:g} ms" if latency > limits.latency_ms else ""


def _short(network: FittedModel) -> dict[str, Any]:
    kept = ("chosen", "oof_loss", "stopped", "cpu_parts", "int8")
    return {name: network.diagnostics[name] for name in kept if name in network.diagnostics}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _with(model: FittedModel, outcome: Outcome) -> FittedModel:
    return replace(model, diagnostics={**model.diagnostics, "escalation": asdict(outcome)})
