"""The graph of a forecaster: history window, time of the origin and known covariates in, horizon and quantiles out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.series.members import Member
from modelworks.algorithms.series.problem import Problem
from modelworks.algorithms.series.spread import Spread
from modelworks.algorithms.series.windows import calendar_nodes, filled_nodes
from modelworks.core.signature import DATETIMES, FUTURE, HISTORY, Signature, Tensor

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ForecastGraph:
    """What is written: see ``Forecaster``."""

    problem: Problem
    members: tuple[Member, ...]
    shares: Rows
    spread: Spread
    offsets: Rows
    levels: tuple[float, ...]

    def signature(self) -> Signature:
        """Return typed inputs and outputs."""
        problem, panel = self.problem, self.problem.panel
        inputs = [
            Tensor(
                name=HISTORY,
                datatype="FP32",
                shape=(-1, len(panel.channels), problem.length),
                columns=(HISTORY,),
            )
        ]
        if problem.waves:
            inputs.append(Tensor(name=DATETIMES, datatype="INT64", shape=(-1, 1), columns=("origin",)))
        if panel.known:
            inputs.append(
                Tensor(
                    name=FUTURE,
                    datatype="FP32",
                    shape=(-1, len(panel.known), problem.horizon),
                    columns=(FUTURE,),
                )
            )
        return Signature(
            inputs=tuple(inputs),
            outputs=(
                Tensor(name="prediction", datatype="FP32", shape=(-1, problem.horizon)),
                Tensor(name="quantiles", datatype="FP32", shape=(-1, problem.horizon, len(self.levels))),
            ),
            quantiles=self.levels,
        )

    def write(self) -> tuple[bytes, Signature]:
        """Return the graph and its signature."""
        graph = Graph()
        problem = self.problem
        history = filled_nodes(graph, _channel(graph, HISTORY, 0), problem.length, problem.shifts)
        extras = self._extras(graph)
        looked = {}
        parts = []
        for member, share in zip(self.members, self.shares, strict=True):
            if member.view not in looked:
                looked[member.view] = member.view.nodes(graph, history, problem.length, extras)
            found = member.nodes(graph, looked[member.view])
            parts.append(graph.op("Mul", found, graph.constant(share[None])))
        point = graph.total(parts)
        quantiles = self._quantiles(graph, history, point)
        if problem.never_negative:
            point, quantiles = graph.op("Relu", point), graph.op("Relu", quantiles)
        graph.rename(point, "prediction")
        graph.rename(quantiles, "quantiles")
        signature = self.signature()
        return graph.finish(signature), signature

    def _extras(self, graph: Graph) -> str | None:
        problem, panel = self.problem, self.problem.panel
        parts = calendar_nodes(graph, DATETIMES, problem.waves) if problem.waves else []
        past = len(panel.channels) - 1
        for index in range(past):
            channel = graph.op(
                "Slice",
                _channel(graph, HISTORY, index + 1),
                graph.constant(np.array([problem.length - problem.past_steps], np.int64)),
                graph.constant(np.array([problem.length], np.int64)),
                graph.constant(np.array([1], np.int64)),
            )
            parts.append(self._standard(graph, channel, index))
        for index in range(len(panel.known)):
            parts.append(self._standard(graph, _channel(graph, FUTURE, index), past + index))
        return graph.concat(parts) if parts else None

    def _standard(self, graph: Graph, source: str, covariate: int) -> str:
        mean, deviation = self.problem.moments[covariate].astype(np.float32)
        moved = graph.op("Div", graph.op("Sub", source, graph.constant(mean)), graph.constant(deviation))
        cut = graph.op("Clip", moved, graph.constant(np.float32(-10)), graph.constant(np.float32(10)))
        return graph.op("Where", graph.op("IsNaN", moved), graph.constant(np.float32(0)), cut)

    def _quantiles(self, graph: Graph, history: str, point: str) -> str:
        deep = graph.constant(np.array([2], np.int64))
        wide = graph.op("Unsqueeze", self.spread.nodes(graph, history), deep)
        moved = graph.op("Mul", wide, graph.constant(self.offsets[None]))
        return graph.op("Add", graph.op("Unsqueeze", point, deep), moved)


def _channel(graph: Graph, source: str, index: int) -> str:
    """Pick one channel of [rows, channels, length] as [rows, length]."""
    return graph.op("Gather", source, graph.constant(np.int64(index)), axis=1)
