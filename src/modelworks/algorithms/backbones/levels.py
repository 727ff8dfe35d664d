"""Series encoder for levels and trends: summaries of every channel, and random cosines of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.kernels import stack_series
from modelworks.algorithms.backbones.sources import OWN
from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.compute.runtime import GraphSession
from modelworks.core.backbone import Backbone, BackboneCard
from modelworks.core.signature import SERIES, Tensor

Floats = npt.NDArray[np.float32]

WIDTHS = (0.04, 0.17, 0.7)
"""Inverse widths of the Gaussian kernels that the cosines stand for, over the number of summaries."""

FARTHEST = np.float32(6)
"""Standardised summaries are cut here."""

PER_CHANNEL = 6
AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class LevelSource:
    """Configuration of ``series.levels``.

    Attributes:
        cosines: Random cosines of the summaries.
        length: Values per series that the graph takes; 0 for the longest training series.
    """

    cosines: int = 999
    length: int = 0

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="series.levels",
            modality="series",
            summary="Mean, thirds, spread, trend and last value of every channel; random cosines of them.",
            source="Rahimi & Recht (2007), Random features for large-scale kernel machines",
            fitted=True,
            min_samples=2,
            cost_ms=0.1,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Fit the scales on unlabelled series (``float32 [channels, length]``); the cosines are drawn."""
        length = self.length or max(item.shape[1] for item in samples)
        channels = int(samples[0].shape[0])
        stacked = stack_series(samples, length)
        signal = Tensor(name=SERIES, datatype="FP32", shape=(-1, channels, length))
        graph = Graph()
        graph.rename(_summaries(graph, channels, length), "summaries")
        wide = channels * PER_CHANNEL
        session = GraphSession(
            graph.to_bytes([signal], [Tensor(name="summaries", datatype="FP32", shape=(-1, wide))])
        )
        plain = np.concatenate(
            [
                session.run({SERIES: stacked[at : at + AT_ONCE]})["summaries"]
                for at in range(0, len(stacked), AT_ONCE)
            ]
        ).astype(np.float64)
        middle, spread = plain.mean(axis=0), plain.std(axis=0)
        usable = spread > 1e-6 * np.maximum(np.abs(middle), 1e-6)
        rng = np.random.default_rng(seed)
        dimensions = max(1, int(usable.sum()))
        widths = np.array(WIDTHS)[np.arange(self.cosines) % len(WIDTHS)] / dimensions
        turns = rng.normal(size=(wide, self.cosines)) * np.sqrt(2 * widths)
        phases = rng.uniform(0, 2 * np.pi, self.cosines)

        graph = Graph()
        found = _summaries(graph, channels, length)
        factor = np.where(usable, 1 / np.where(usable, spread, 1), 0)
        moved = graph.op("Sub", found, graph.constant(middle[None].astype(np.float32)))
        scaled = graph.op("Mul", moved, graph.constant(factor[None].astype(np.float32)))
        held = graph.op("Clip", scaled, graph.constant(-FARTHEST), graph.constant(FARTHEST))
        angles = graph.op("MatMul", held, graph.constant(turns.astype(np.float32)))
        waves = graph.op("Cos", graph.op("Add", angles, graph.constant(phases[None].astype(np.float32))))
        # The summaries and the cosines have about the same length.
        parts = [
            graph.scaled(held, 1 / np.sqrt(dimensions)),
            graph.scaled(waves, float(np.sqrt(2 / self.cosines))),
        ]
        graph.op("Concat", *parts, axis=1, out="embedding")
        width = wide + self.cosines
        onnx = graph.to_bytes([signal], [Tensor(name="embedding", datatype="FP32", shape=(-1, width))])
        return Backbone(
            name=self.card.name,
            modality="series",
            onnx=onnx,
            width=width,
            licence=OWN,
            about={"source": self.card.source, "settings": asdict(self), "fitted_on": len(samples)},
        )


def _summaries(graph: Graph, channels: int, length: int) -> str:
    """Add six numbers per channel, [rows, channels x 6], over the known values before the end of the series."""
    axis, last = graph.constant(np.array([2], np.int64)), graph.constant(np.array([1, 2], np.int64))
    zero, one = graph.constant(np.float32(0)), graph.constant(np.float32(1))
    missing = graph.op("IsNaN", SERIES)
    present = graph.cast(graph.op("Not", missing), FLOAT)
    known = graph.op("Where", missing, zero, SERIES)
    places = graph.constant(np.arange(1, length + 1, dtype=np.float32)[None, None, :])
    ends = graph.op("Max", graph.op("ReduceMax", graph.op("Mul", present, places), last), one)
    along = graph.op("Div", places, ends)

    def mean(weights: str) -> str:
        total = graph.op("ReduceSum", graph.op("Mul", known, weights), axis)
        count = graph.op("Max", graph.op("ReduceSum", weights, axis), graph.constant(np.float32(1e-6)))
        return graph.op("Div", total, count)

    def within(low: float, high: float) -> str:
        after = graph.cast(graph.op("Greater", along, graph.constant(np.float32(low))), FLOAT)
        before = graph.cast(graph.op("LessOrEqual", along, graph.constant(np.float32(high))), FLOAT)
        return graph.op("Mul", present, graph.op("Mul", after, before))

    middle = mean(present)
    away = graph.op("Mul", graph.op("Sub", known, middle), present)
    count = graph.op("Max", graph.op("ReduceSum", present, axis), one)
    spread = graph.op("Sqrt", graph.op("Div", graph.op("ReduceSumSquare", away, axis), count))
    tilt = graph.op("Sub", along, graph.constant(np.float32(0.5)))
    trend = graph.op("Div", graph.op("ReduceSum", graph.op("Mul", away, tilt), axis), count)
    newest = mean(graph.cast(graph.op("Equal", graph.op("Mul", present, places), ends), FLOAT))
    found = [middle, mean(within(0.0, 1 / 3)), mean(within(2 / 3, 1.0)), spread, trend, newest]
    return graph.op(
        "Reshape",
        graph.op("Concat", *found, axis=2),
        graph.constant(np.array([-1, channels * PER_CHANNEL], np.int64)),
    )
