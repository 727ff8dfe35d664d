"""The finished ensemble: its native prediction, its graph, and how it is made to fit into the task's limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.tables.boosted import BoostedModel
from modelworks.algorithms.tables.intervals import Intervals
from modelworks.algorithms.tables.outputs import native_outputs, write_outputs, write_quantiles
from modelworks.algorithms.tables.views import BRANCHES, TABLE, ViewedRows, Views, WrittenViews
from modelworks.algorithms.trees import merge, write_trees
from modelworks.compute.feeds import pack_columns
from modelworks.compute.runtime import GraphSession, single_row_latency_ms
from modelworks.core.errors import ExecutionError
from modelworks.core.signature import Signature
from modelworks.core.task import Limits
from modelworks.training.decision import Decision
from modelworks.training.problem import Floats, Problem

PARITY = 1e-5
_PARITY_ROWS = 200
_LATENCY_REPEATS = 60
_MEDIAN_SHARE = 0.6


@dataclass(frozen=True, kw_only=True)
class Part:
    """A member of the ensemble with its fitted model and its weight."""

    member: Any
    model: Any
    weight: float


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A weighted sum of members over shared views, and the outputs made from it.

    Attributes:
        views: The encodings.
        parts: Members with positive weight.
        problem: Kind, classes and target scale.
        classes: Class or label names.
        decision: How labels are read off probabilities.
        intervals: Quantiles around the prediction, for regression.
    """

    views: Views
    parts: tuple[Part, ...]
    problem: Problem
    classes: tuple[str, ...]
    decision: Decision
    intervals: Intervals | None = None

    def scores(self, rows: ViewedRows) -> Floats:
        """Return the pooled scores by the members' own prediction, without a graph."""
        total = np.zeros((len(rows.table), self.problem.outputs))
        for part in self.parts:
            total += part.weight * part.member.predict(part.model, rows[part.member.view])
        return total

    def predict(self, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> dict[str, npt.NDArray[Any]]:
        """Return the public outputs computed without a graph (but for the encoding)."""
        seen = self.views.of_columns(columns, rows)
        scores = self.scores(seen)
        outputs = native_outputs(scores, self.problem, self.classes, self.decision)
        if self.intervals is not None:
            quantiles = self.intervals.quantiles(scores, seen[TABLE])
            raw = self.problem.centre + self.problem.spread * quantiles
            outputs["quantiles"] = raw.astype(np.float32)
        return dict(outputs)

    def write(self) -> tuple[bytes, Signature]:
        """Write the ensemble as one graph."""
        graph = Graph()
        views = WrittenViews(self.views, graph)
        trees = [part.model.trees.scaled(part.weight) for part in self.parts if _is_trees(part)]
        wide = any(_is_trees(part) and part.member.view == BRANCHES for part in self.parts)
        terms = [write_trees(graph, merge(trees), views[BRANCHES if wide else TABLE])] if trees else []
        for part in self.parts:
            if not _is_trees(part):
                terms.append(part.member.write(graph, part.model, views[part.member.view], part.weight))
        total = graph.total(terms)
        outputs = write_outputs(graph, total, self.problem, self.classes, self.decision)
        levels: tuple[float, ...] = ()
        if self.intervals is not None:
            levels = self.intervals.levels
            quantiles = self.intervals.write(graph, total, views[TABLE])
            outputs = (*outputs, write_quantiles(graph, quantiles, self.problem, len(levels)))
        signature = Signature(
            inputs=self.views.encoder.tensors, outputs=outputs, classes=self.classes, quantiles=levels
        )
        return graph.finish(signature), signature


def _is_trees(part: Part) -> bool:
    return isinstance(part.model, BoostedModel)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the finished graph was measured to be.

    Attributes:
        size_mb: Bytes / 10**6.
        latency_ms: Median single-row time, one thread.
        parity: Largest difference to the native prediction (relative to the target's spread for regression).
    """

    size_mb: float
    latency_ms: float
    parity: float

    def over(self, limits: Limits) -> str:
        """Say which limit is broken, or return an empty text."""
        if self.size_mb > limits.size_mb:
            return f"{self.size_mb:.1f} MB is over {limits.size_mb:g} MB"
        if self.latency_ms > _MEDIAN_SHARE * limits.latency_ms:
            return f"a median of {self.latency_ms:.2f} ms is too near to {limits.latency_ms:g} ms"
        return ""


def measure(
    ensemble: Ensemble,
    onnx: bytes,
    signature: Signature,
    columns: Mapping[str, npt.NDArray[Any]],
    rows: int,
    limits: Limits,
) -> Measured:
    """Run the graph on some training rows and compare it with the native prediction.

    A graph that seems slower than ``limits`` allow is timed again after a pause: what a busy neighbour costs must not
    decide which members are shipped.

    Raises:
        ExecutionError: The graph does not give the native prediction.
    """
    chosen = np.unique(np.linspace(0, rows - 1, _PARITY_ROWS).astype(np.int64))
    sample = {name: values[chosen] for name, values in columns.items()}
    session = GraphSession(onnx)
    feeds = pack_columns(signature, sample, len(chosen))
    written = session.run(feeds)
    native = ensemble.predict(sample, len(chosen))
    spread, centre = ensemble.problem.spread, ensemble.problem.centre
    scale = 1.0 if ensemble.classes else max(spread, 0.02 * abs(centre), 1e-30)
    worst = 0.0
    for name in ("probabilities", "prediction", "quantiles"):
        if name in written:
            apart = np.abs(written[name].astype(np.float64) - native[name])
            worst = max(worst, float(np.nan_to_num(apart, nan=np.inf).max()) / scale)
    if not worst <= 10 * PARITY:
        raise ExecutionError(
            f"The graph differs from the native prediction by {worst:.2g}; it is not shipped.",
            code="MW5020",
            hint="report this with the table's schema",
        )
    allowed = _MEDIAN_SHARE * limits.latency_ms
    latency = single_row_latency_ms(session, feeds, repeats=_LATENCY_REPEATS)
    if latency["p50"] > allowed:
        latency = single_row_latency_ms(session, feeds, repeats=_LATENCY_REPEATS, limit_ms=allowed)
    return Measured(size_mb=len(onnx) / 1e6, latency_ms=latency["p50"], parity=worst)
