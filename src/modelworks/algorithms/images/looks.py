"""Looks at an image: local features at one scale, and how far each place is from those of normal images.

A look either learns a dictionary of small patches from the normal images and describes every place by the pooled
responses, or takes a map of the network that saw formulas only; it measures a place by its distance to the nearest
remembered place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.formula import STRIDES, map_widths, write_maps
from modelworks.algorithms.backbones.patches import (
    learn_dictionary,
    patch_contrast,
    standardised_pixels,
)
from modelworks.algorithms.graph import Graph
from modelworks.core.signature import Tensor

Floats = npt.NDArray[np.float32]

PATCH = 6
_THRESHOLD = 0.25
_DRAWN = 40_000
_CANDIDATES = 20_000
_SHRINK = 0.01


@dataclass(frozen=True)
class Look:
    """One scale.

    Attributes:
        side: Images are resized to ``side`` x ``side`` pixels.
        pool: Side of the field over which responses are averaged, pixels; ``stride`` plus an even number.
        stride: Distance of neighbouring fields, pixels; divides ``side``.
    """

    side: int
    pool: int
    stride: int

    @property
    def places(self) -> int:
        """Fields along one side; they divide the image evenly."""
        return self.side // self.stride


@dataclass(frozen=True)
class NetworkLook:
    """One map of the network of ``images.formula``.

    Attributes:
        side: Images are resized to ``side`` x ``side`` pixels.
        level: Which map: 0 to 3, at strides 2, 4, 8 and 16.
    """

    side: int
    level: int

    @property
    def places(self) -> int:
        """Places along one side."""
        return self.side // STRIDES[self.level]


@dataclass(frozen=True)
class Filters:
    """The dictionary of a look: ``[atoms, 3, 6, 6]``, whitening included."""

    kernels: Floats


@dataclass(frozen=True)
class Memory:
    """What normal places look like.

    Attributes:
        mean: float32 ``[d]`` of the features.
        project: float32 ``[d, k]`` onto their leading directions, half whitened.
        kept: float32 ``[m, k]`` remembered places.
    """

    mean: Floats
    project: Floats
    kept: Floats


def learn_filters(resized: Floats, atoms: int, rng: np.random.Generator) -> Filters:
    """Learn a dictionary from images ``[n, 3, side, side]`` in [-1, 1]."""
    whitening, found = learn_dictionary(resized, PATCH, atoms, _DRAWN, rng)
    return Filters((found @ whitening).astype(np.float32).reshape(len(found), 3, PATCH, PATCH))


def network_map(graph: Graph, look: NetworkLook, maps: tuple[str, ...]) -> str:
    """Add the nodes from the network's maps to a map of features, each place averaged with its neighbours."""
    near = graph.op(
        "AveragePool",
        maps[look.level],
        kernel_shape=[3, 3],
        strides=[1, 1],
        pads=[1] * 4,
        count_include_pad=0,
    )
    return graph.op("Sqrt", near)


def network_graph(look: NetworkLook) -> bytes:
    """Return the graph ``pixels -> embedding FP32 [rows, d, places, places]``."""
    graph = Graph()
    graph.rename(network_map(graph, look, write_maps(graph, look.side)), "embedding")
    return graph.to_bytes(
        [Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3))],
        [
            Tensor(
                name="embedding", datatype="FP32",
                shape=(-1, map_widths()[look.level], look.places, look.places),
            )
        ],
    )  # fmt: skip


def write_features(graph: Graph, look: Look, filters: Filters) -> str:
    """Add the nodes from ``pixels`` to a map of features ``FP32 [rows, d, places, places]``."""
    before, after = PATCH // 2, PATCH // 2 - 1
    around = graph.constant([0, 0, before, before, 0, 0, after, after], np.int64)
    source = graph.op("Pad", standardised_pixels(graph, look.side), around, mode="reflect")
    contrast = patch_contrast(graph, source, PATCH)
    response = graph.op("Conv", source, graph.constant(filters.kernels))
    response = graph.op("Div", response, contrast)
    threshold = graph.constant(np.full((), _THRESHOLD, np.float32))
    active = [
        graph.op("Relu", graph.op("Sub", sign, threshold))
        for sign in (response, graph.op("Neg", response))
    ]  # fmt: skip
    whole = graph.op("Concat", *active, graph.scaled(contrast, 3.0), axis=1)
    margin = [(look.pool - look.stride) // 2] * 4
    size, step = [look.pool] * 2, [look.stride] * 2
    return graph.op("Sqrt", graph.op("AveragePool", whole, kernel_shape=size, strides=step, pads=margin))


def features_graph(look: Look, filters: Filters) -> bytes:
    """Return the graph ``pixels -> embedding FP32 [rows, d, places, places]``."""
    graph = Graph()
    graph.rename(write_features(graph, look, filters), "embedding")
    width = 2 * len(filters.kernels) + 1
    return graph.to_bytes(
        [Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3))],
        [Tensor(name="embedding", datatype="FP32", shape=(-1, width, look.places, look.places))],
    )


def remember(maps: Floats, size: int, width: int, rng: np.random.Generator) -> Memory:
    """Learn what is normal from feature maps ``[n, d, h, w]``: directions, and a spread-out memory of places.

    Source: Roth et al. (2022), Towards total recall in industrial anomaly detection (greedy coreset).
    """
    n, depth, high, wide = maps.shape
    chosen = np.sort(rng.permutation(n * high * wide)[:_CANDIDATES])
    image, place = np.divmod(chosen, high * wide)
    drawn = maps[image, :, place // wide, place % wide]
    mean = drawn.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((drawn - mean).astype(np.float64), rowvar=False))
    width = min(width, depth, len(drawn) - 1)
    values, vectors = np.maximum(values[::-1][:width], 0), vectors[:, ::-1][:, :width]
    values = values + _SHRINK * values[0] + 1e-9
    project = (vectors / values**0.25).astype(np.float32)
    places = (drawn - mean) @ project
    return Memory(mean, project, _spread(places, size, rng))


def _spread(places: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Keep ``size`` places, each the one farthest from those kept before it."""
    if len(places) <= size:
        return places
    square = (places**2).sum(axis=1)
    kept = [int(rng.integers(len(places)))]
    nearest = np.full(len(places), np.inf, np.float32)
    for _ in range(size - 1):
        last = places[kept[-1]]
        np.minimum(nearest, square - 2 * (places @ last) + last @ last, out=nearest)
        kept.append(int(nearest.argmax()))
    return np.ascontiguousarray(places[kept])


def write_distance(graph: Graph, maps: str, memory: Memory) -> str:
    """Add the map ``FP32 [rows, 1, h, w]`` of the distances to the nearest remembered place."""
    bias = -(memory.mean @ memory.project)
    kernel = np.ascontiguousarray(memory.project.T)[:, :, None, None]
    near = graph.op("Conv", maps, graph.constant(kernel), graph.constant(bias.astype(np.float32)))
    axis = graph.constant([1], np.int64)
    known = graph.constant((-2 * memory.kept)[:, :, None, None])
    product = graph.op("Conv", near, known, graph.constant((memory.kept**2).sum(axis=1)))
    nearest = graph.op("Add", graph.op("ReduceMin", product, axis), graph.op("ReduceSumSquare", near, axis))
    return graph.op("Sqrt", graph.op("Relu", nearest))


def distance_graph(look: Look | NetworkLook, memory: Memory) -> bytes:
    """Return the graph ``maps [rows, d, h, w] -> distance [rows, 1, h, w]``."""
    graph = Graph()
    shape = (-1, len(memory.mean), look.places, look.places)
    graph.rename(write_distance(graph, "maps", memory), "distance")
    return graph.to_bytes(
        [Tensor(name="maps", datatype="FP32", shape=shape)],
        [Tensor(name="distance", datatype="FP32", shape=(-1, 1, look.places, look.places))],
    )
