"""The int8 decision: a quantised graph is kept only if it passes the gate, is as good, and is measured faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.compute.feeds import answer, batches
from modelworks.compute.quantising import quantised, side_by_side_ms
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import ExecutionError
from modelworks.core.estimator import FittedModel
from modelworks.core.task import Bound, TaskKind
from modelworks.evaluation import compare, evaluate
from modelworks.evaluation.conditions import bound_checks

SAMPLES = 128
"""Calibration samples, at most."""
_SHOWN = ("metric", "value", "other", "difference", "low", "high", "margin", "n")
FASTER = 0.95
"""The int8 graph must take at most this share of the time, at the upper end of the interval."""


Timer = Callable[[bytes, bytes, Mapping[str, npt.NDArray[Any]]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Rows on which the two graphs are compared; validation rows, never sealed ones.

    Attributes:
        payload: Payloads of the rows.
        target: Their target, in the conventions of ``TrainingSamples``.
        kind: Kind of task.
        classes: Class or label names.
        metric: Metric of the task, or ``None`` for the kind's default.
        gate: The task's bounds.
        margin: How much worse int8 may be; ``None`` takes the one of ``evaluation.compare``.
    """

    payload: npt.NDArray[Any]
    target: npt.NDArray[Any]
    kind: TaskKind
    classes: tuple[str, ...]
    metric: str | None = None
    gate: tuple[Bound, ...] = ()
    margin: float | None = None


def choose_precision(
    model: FittedModel,
    calibration: npt.NDArray[Any],
    judged: Judged,
    budget: Budget,
    *,
    seed: int = 0,
    timer: Timer = side_by_side_ms,
) -> FittedModel:
    """Return the int8 model if it earns its place, else the model as it was; ``diagnostics["int8"]`` says why.

    Three things must hold: every bound of the gate that the float graph passes on the judged rows is passed by the
    int8 graph too; the paired comparison shows it not worse than the margin; and one row takes less time, measured
    in turns. If not, it is tried once more with the first layer in FP32. What is shipped is judged again on the
    sealed rows like any model.

    Args:
        model: The float model.
        calibration: Payloads of training rows that the ranges of activations are taken from.
        judged: Rows to compare on.
        budget: Checked between the acts.
        seed: Seed of the resamples.
        timer: Measures both graphs on the same inputs; tests pass their own.
    """
    tried: list[dict[str, Any]] = []
    for whole_first in (False, True):
        budget.check()
        try:
            onnx = _made(model, calibration, budget, whole_first)
        except ExecutionError as error:
            tried.append({"kept": False, "why": error.message})
            break
        facts = _contest(model, onnx, judged, seed, timer)
        sizes = {"size_mb": len(onnx) / 1e6, "float_size_mb": len(model.onnx) / 1e6}
        tried.append({"first_layer": "fp32" if whole_first else "int8", **sizes, **facts})
        if facts["kept"]:
            return _noted(replace(model, onnx=onnx), tried, len(model.onnx))
    return _noted(model, tried, len(model.onnx))


def _contest(model: FittedModel, onnx: bytes, judged: Judged, seed: int, timer: Timer) -> dict[str, Any]:
    """Compare the int8 graph with the float one in quality and speed; returns ``kept``, ``why`` and the figures."""
    column = model.signature.inputs[0].columns[0]
    found = [_answers(data, model, judged, column) for data in (onnx, model.onnx)]
    compared = compare(
        judged.kind, found[0], found[1], judged.target, judged.classes, metric=judged.metric, margin=judged.margin,
        seed=seed,
    )  # fmt: skip
    speed = timer(model.onnx, onnx, _one_row(model, judged.payload, column))
    why = _refusal(compared, _lost_bounds(found, judged, seed), speed)
    return {
        "quality": {name: compared[name] for name in _SHOWN},
        "speed": speed,
        "kept": not why,
        "why": why or _praise(compared, speed),
    }


def _made(model: FittedModel, calibration: npt.NDArray[Any], budget: Budget, whole_first: bool) -> bytes:
    column = model.signature.inputs[0].columns[0]
    chosen = np.unique(np.linspace(0, len(calibration) - 1, SAMPLES).astype(np.int64))
    feeds = [part for _, part in batches(model.signature, {column: calibration[chosen]}, len(chosen))]
    budget.check()
    return quantised(model.onnx, feeds, whole_first=whole_first)


def _answers(onnx: bytes, model: FittedModel, judged: Judged, column: str) -> dict[str, npt.NDArray[Any]]:
    return answer(GraphSession(onnx), model.signature, {column: judged.payload}, len(judged.payload))


def _one_row(model: FittedModel, payload: npt.NDArray[Any], column: str) -> dict[str, npt.NDArray[Any]]:
    _, feeds = next(batches(model.signature, {column: payload[:1]}, 1))
    return feeds


def _lost_bounds(found: Sequence[dict[str, npt.NDArray[Any]]], judged: Judged, seed: int) -> str:
    """Name a bound that the float graph passes and the int8 graph does not."""
    if not judged.gate:
        return ""
    named = tuple(bound.metric for bound in judged.gate)
    outcomes = []
    for outputs in found:
        evaluation = evaluate(
            judged.kind, outputs, judged.target, judged.classes, metric=judged.metric, also=named, seed=seed
        )
        outcomes.append(bound_checks(evaluation, judged.gate))
    for small, whole in zip(*outcomes, strict=True):
        if small.check.outcome == "failed" or (whole.check.outcome == "passed" != small.check.outcome):
            return f"{small.check.name}: {small.check.detail}"
    return ""


def _refusal(compared: dict[str, Any], lost: str, speed: dict[str, Any]) -> str:
    if lost:
        return f"the int8 graph does not pass the gate ({lost})"
    if not compared["not_worse"]:
        return (
            f"not shown to be as good: {compared['metric']} {_number(compared['value'])} against "
            f"{_number(compared['other'])}, margin {_number(compared['margin'])}, {compared['n']} rows"
        )
    if speed["high"] > FASTER:
        return f"not faster: {speed['ratio']:.2f} times the time ({speed['low']:.2f} to {speed['high']:.2f})"
    return ""


def _praise(compared: dict[str, Any], speed: dict[str, Any]) -> str:
    return (
        f"{speed['ratio']:.2f} times the time ({speed['low']:.2f} to {speed['high']:.2f}); {compared['metric']} "
        f"{_number(compared['value'])} against {_number(compared['other'])}"
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _noted(model: FittedModel, tried: list[dict[str, Any]], whole: int) -> FittedModel:
    """Write down the last attempt, the bytes of the float graph and, where there were two, the attempt before it."""
    facts = tried[-1] | {"float_size_mb": whole / 1e6} | ({"before": tried[0]} if len(tried) > 1 else {})
    return replace(model, diagnostics={**model.diagnostics, "int8": facts})
