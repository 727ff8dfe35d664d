"""The plainest look at a sample, which a model must beat: tiny pixels, the shape of a text, moments of a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelworks.algorithms.backbones.sources import OWN
from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.core.backbone import Backbone, BackboneCard
from modelworks.core.signature import CHARACTERS, PIXELS, SERIES, Tensor

SIDE = 8
_GROUPS = (
    ((0x30, 0x39),),
    ((0x41, 0x5A),),
    ((0x20, 0x20), (0x09, 0x0D)),
    ((0x21, 0x2F), (0x3A, 0x40)),
    ((0x80, 0x10FFFF),),
)
"""Code points of digits, capital letters, blanks, marks and of all that is not ASCII."""


@dataclass(frozen=True, kw_only=True)
class PixelSource:
    """Configuration of ``images.pixels``: an image reduced to 8 x 8 pixels."""

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="images.pixels",
            modality="image",
            summary="The image reduced to 8 x 8 pixels.",
            source="a reference, not a method",
            cost_ms=0.2,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Return the encoder; nothing is fitted."""
        graph = Graph()
        floats = graph.op("Transpose", graph.op("Cast", PIXELS, to=FLOAT), perm=[0, 3, 1, 2])
        batch = graph.op("Shape", PIXELS, end=1)
        sizes = graph.op("Concat", batch, graph.constant([3, SIDE, SIDE], np.int64), axis=0)
        small = graph.op("Resize", floats, "", "", sizes, mode="linear", antialias=1)
        scaled = graph.op("Mul", small, graph.constant(1 / 255, np.float32))
        graph.op("Flatten", scaled, axis=1, out="embedding")
        pixels = Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3))
        return _reference(self.card, graph, pixels, 3 * SIDE * SIDE)


@dataclass(frozen=True, kw_only=True)
class TextShapeSource:
    """Configuration of ``text.shape``: how long a text is and what kinds of characters it has."""

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="text.shape",
            modality="text",
            summary="Length of the text and its shares of digits, capitals, blanks, marks and other scripts.",
            source="a reference, not a method",
            cost_ms=0.1,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Return the encoder; nothing is fitted."""
        graph = Graph()
        axis = graph.constant([1], np.int64)

        def count(mask: str) -> str:
            return graph.op("ReduceSum", graph.cast(mask, FLOAT), axis)

        def within(low: int, high: int) -> str:
            above = graph.op("GreaterOrEqual", CHARACTERS, graph.constant(low, np.int64))
            return graph.op("And", above, graph.op("LessOrEqual", CHARACTERS, graph.constant(high, np.int64)))

        one = graph.constant(1, np.float32)
        length = count(within(0, 0x10FFFF))
        safe = graph.op("Max", length, one)
        parts = [graph.op("Log", graph.op("Add", length, one))]
        for spans in _GROUPS:
            found = graph.total([count(within(low, high)) for low, high in spans])
            parts.append(graph.op("Div", found, safe))
        graph.op("Concat", *parts, axis=1, out="embedding")
        characters = Tensor(name=CHARACTERS, datatype="INT64", shape=(-1, -1))
        return _reference(self.card, graph, characters, 1 + len(_GROUPS))


@dataclass(frozen=True, kw_only=True)
class SeriesMomentSource:
    """Configuration of ``series.moments``: mean, spread and ends of every channel.

    Attributes:
        length: Values per series that the graph takes; 0 for the longest training series.
    """

    length: int = 0

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="series.moments",
            modality="series",
            summary="Mean, spread, lowest and highest value of every channel.",
            source="a reference, not a method",
            cost_ms=0.1,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Return the encoder for series with as many channels; nothing is fitted."""
        channels = int(samples[0].shape[0])
        length = self.length or max(item.shape[1] for item in samples)
        graph = Graph()
        axis = graph.constant([2], np.int64)
        zero, one = graph.constant(0, np.float32), graph.constant(1, np.float32)
        missing = graph.op("IsNaN", SERIES)
        present = graph.cast(graph.op("Not", missing), FLOAT)
        count = graph.op("Max", graph.op("ReduceSum", present, axis), one)
        filled = graph.op("Where", missing, zero, SERIES)
        mean = graph.op("Div", graph.op("ReduceSum", filled, axis), count)
        away = graph.op("Mul", graph.op("Sub", filled, mean), present)
        spread = graph.op("Sqrt", graph.op("Div", graph.op("ReduceSumSquare", away, axis), count))
        level = graph.op("Where", missing, mean, SERIES)
        found = [mean, spread, graph.op("ReduceMin", level, axis), graph.op("ReduceMax", level, axis)]
        graph.op("Flatten", graph.op("Concat", *found, axis=2), axis=1, out="embedding")
        series = Tensor(name=SERIES, datatype="FP32", shape=(-1, channels, length))
        return _reference(self.card, graph, series, 4 * channels)


def _reference(card: BackboneCard, graph: Graph, payload: Tensor, width: int) -> Backbone:
    onnx = graph.to_bytes([payload], [Tensor(name="embedding", datatype="FP32", shape=(-1, width))])
    return Backbone(
        name=card.name,
        modality=card.modality,
        onnx=onnx,
        width=width,
        licence=OWN,
        about={"source": card.source},
    )
