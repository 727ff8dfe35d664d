"""A backbone in one file: mean and spread of every colour over a grid of cells, as one graph of standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.core.backbone import Backbone, BackboneCard
from modelworks.core.signature import PIXELS, Tensor


@dataclass(frozen=True, kw_only=True)
class ColourSource:
    """Configuration.

    Attributes:
        cells: The image is parted into ``cells`` x ``cells``.
        side: Pixels of a cell's side after resizing.
    """

    cells: int = 3
    side: int = 8

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="images.colour",
            modality="image",
            summary="Mean and spread of every colour over a grid of cells.",
            source="Stricker & Orengo (1995), Similarity of color images",
            cost_ms=0.3,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Return the encoder; nothing is fitted."""
        side = self.cells * self.side
        graph = Graph()
        floats = graph.op("Transpose", graph.op("Cast", PIXELS, to=FLOAT), perm=[0, 3, 1, 2])
        batch = graph.op("Shape", PIXELS, end=1)
        sizes = graph.op("Concat", batch, graph.constant([3, side, side], np.int64), axis=0)
        small = graph.op("Resize", floats, "", "", sizes, mode="linear", antialias=1)
        scaled = graph.op("Mul", small, graph.constant(1 / 255, np.float32))
        window = {"kernel_shape": [self.side, self.side], "strides": [self.side, self.side]}
        mean = graph.op("AveragePool", scaled, **window)
        square = graph.op("AveragePool", graph.op("Mul", scaled, scaled), **window)
        spread = graph.op("Sub", square, graph.op("Mul", mean, mean))
        spread = graph.op("Sqrt", graph.op("Max", spread, graph.constant(0, np.float32)))
        graph.op("Flatten", graph.op("Concat", mean, spread, axis=1), axis=1, out="embedding")
        width = 6 * self.cells**2
        return Backbone(
            name=self.card.name,
            modality="image",
            onnx=graph.to_bytes(
                [Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3))],
                [Tensor(name="embedding", datatype="FP32", shape=(-1, width))],
            ),
            width=width,
            licence=self.card.licence,
            about={"source": self.card.source, "settings": asdict(self)},
        )
