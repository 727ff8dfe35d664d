"""From the payload tensor of a model to what its network takes: the same nodes in training and in the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.patches import standardised_pixels
from modelworks.algorithms.graph import FLOAT, ML, Graph
from modelworks.compute.embedding import embed_column
from modelworks.core.backbone import EMBEDDING
from modelworks.core.budget import Budget
from modelworks.core.errors import DataError
from modelworks.core.signature import CHARACTERS, NO_CHARACTER, PIXELS, SERIES, Tensor

Array = npt.NDArray[Any]

NOTHING, UNKNOWN, FIRST = 0, 1, 2


class Door(Protocol):
    """The road from payloads to a network's inputs."""

    def tensor(self, column: str) -> Tensor:
        """Return the payload tensor that the model takes."""
        ...

    def write(self, graph: Graph) -> str:
        """Add the nodes from the payload tensor to the network's input."""
        ...

    def read(self, payloads: Sequence[Any] | Array, budget: Budget) -> Array:
        """Return payloads as ``Examples.inputs``, computed by the same nodes."""
        ...

    def exact(self, payloads: Sequence[Any] | Array, budget: Budget) -> Array:
        """Return what the graph hands to the network, to the last bit."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageDoor:
    """Pixels of any size, resized to a square.

    Attributes:
        side: Side of the square in pixels.
    """

    side: int

    def tensor(self, column: str) -> Tensor:
        return Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3), columns=(column,))

    def write(self, graph: Graph) -> str:
        return standardised_pixels(graph, self.side)

    def read(self, payloads: Sequence[Any] | Array, budget: Budget) -> Array:
        """Return ``uint8 [n, 3, side, side]``; rounding to bytes keeps a quarter of the memory."""
        return np.clip(np.rint((self.exact(payloads, budget) + 1) * 127.5), 0, 255).astype(np.uint8)

    def exact(self, payloads: Sequence[Any] | Array, budget: Budget) -> Array:
        flat = _run(self, payloads, budget)
        return flat.reshape(len(flat), 3, self.side, self.side)


@dataclass(frozen=True, kw_only=True)
class SeriesDoor:
    """Values of a fixed number of channels; missing ones are read as the channel's mean.

    Attributes:
        length: Values per channel; shorter series end in missing ones.
        mean, spread: Per channel, over the training series.
    """

    length: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @staticmethod
    def fit(payloads: Sequence[Any] | Array) -> SeriesDoor:
        """Learn length, means and spreads.

        Raises:
            DataError: The series are shorter than eight values or have different channels.
        """
        channels = {np.atleast_2d(item).shape[0] for item in payloads}
        length = max(np.atleast_2d(item).shape[1] for item in payloads)
        if len(channels) != 1 or length < 8:
            raise DataError(
                f"A network over series needs one number of channels and at least 8 values; there are "
                f"{sorted(channels)} channels and at most {length} values.",
                code="MW1145",
            )
        joined = np.concatenate([np.atleast_2d(item) for item in payloads], axis=1).astype(np.float64)
        finite = np.where(np.isfinite(joined), joined, np.nan)
        rows = [row if np.isfinite(row).any() else np.zeros(1) for row in finite]
        mean = np.array([np.nanmean(row) for row in rows])
        spread = np.array([np.nanstd(row) for row in rows])
        spread = np.where(spread > 1e-12, spread, 1.0)
        return SeriesDoor(length=length, mean=tuple(mean.tolist()), spread=tuple(spread.tolist()))

    def tensor(self, column: str) -> Tensor:
        return Tensor(
            name=SERIES, datatype="FP32", shape=(-1, len(self.mean), self.length), columns=(column,)
        )

    def write(self, graph: Graph) -> str:
        mean = graph.constant(np.array(self.mean, np.float32)[None, :, None])
        spread = graph.constant(np.array(self.spread, np.float32)[None, :, None])
        present = graph.op("Where", graph.op("IsNaN", SERIES), mean, SERIES)
        scaled = graph.op("Div", graph.op("Sub", present, mean), spread)
        return graph.op("Clip", scaled, graph.constant(-50, np.float32), graph.constant(50, np.float32))

    def read(self, payloads: Sequence[Any] | Array, budget: Budget) -> Array:
        """Return ``float32 [n, channels, length]``."""
        flat = _run(self, payloads, budget)
        return flat.reshape(len(flat), len(self.mean), self.length)

    def exact(self, payloads: Sequence[Any] | Array, budget: Budget) -> Array:
        return self.read(payloads, budget)


@dataclass(frozen=True, kw_only=True)
class TextDoor:
    """Characters of a text as small numbers: lower case, the frequent ones known, cut or filled to one length.

    Attributes:
        characters: Known characters; the first has code 2 (0 is nothing, 1 unknown).
        length: Characters that are read.
    """

    characters: tuple[str, ...]
    length: int

    @staticmethod
    def fit(payloads: Sequence[Any] | Array, *, most: int = 4000, longest: int = 512) -> TextDoor:
        """Learn the characters of the training texts and a length that most of them fit in."""
        texts = [(text or "").lower() for text in payloads]
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        known = sorted((item for item in counts.items() if item[1] > 1), key=lambda item: (-item[1], item[0]))
        length = int(np.quantile([len(text) for text in texts], 0.98)) if texts else 8
        return TextDoor(
            characters=tuple(character for character, _ in known[:most]), length=min(max(length, 8), longest)
        )

    @property
    def symbols(self) -> int:
        """Number of codes."""
        return FIRST + len(self.characters)

    def tensor(self, column: str) -> Tensor:
        return Tensor(name=CHARACTERS, datatype="INT64", shape=(-1, -1), columns=(column,))

    def write(self, graph: Graph) -> str:
        codes: dict[int, int] = {NO_CHARACTER: NOTHING}
        for place, character in enumerate(self.characters):
            codes[ord(character)] = FIRST + place
        for character in self.characters:
            upper = character.upper()
            if len(upper) == 1:
                codes.setdefault(ord(upper), codes[ord(character)])
        found = graph.op(
            "LabelEncoder", CHARACTERS, domain=ML, keys_int64s=list(codes), values_int64s=list(codes.values()),
            default_int64=UNKNOWN,
        )  # fmt: skip
        rows = graph.op("Shape", CHARACTERS, start=0, end=1)
        size = graph.op("Concat", rows, graph.constant([self.length], np.int64), axis=0)
        filling = graph.op("Expand", graph.constant(np.zeros((1, 1), np.int64)), size)
        filled = graph.op("Concat", found, filling, axis=1)
        ints = [graph.constant(value, np.int64) for value in ([0], [self.length], [1])]
        return graph.op("Slice", filled, *ints)

    def read(self, payloads: Sequence[Any] | Array, budget: Budget) -> Array:
        """Return ``int32 [n, length]``."""
        return _run(self, payloads, budget).astype(np.int32)

    def exact(self, payloads: Sequence[Any] | Array, budget: Budget) -> Array:
        return self.read(payloads, budget)


def _run(door: Door, payloads: Sequence[Any] | Array, budget: Budget) -> npt.NDArray[np.float32]:
    """Run the nodes of a door alone; codes of characters are far below what a float32 holds exactly."""
    graph = Graph()
    graph.op("Flatten", graph.cast(door.write(graph), FLOAT), axis=1, out=EMBEDDING)
    tensor = door.tensor("payload")
    onnx = graph.to_bytes([tensor], [Tensor(name=EMBEDDING, datatype="FP32", shape=(-1, -1))])
    return embed_column(onnx, (tensor,), payloads, stopped=budget.check)
