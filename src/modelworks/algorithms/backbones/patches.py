"""Image encoder fitted on a user's own unlabelled images in seconds: whitened patch dictionaries, no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import DataError
from modelworks.core.signature import Tensor

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class PatchEncoder:
    """Configuration of the patch encoder.

    Attributes:
        side: Images are resized to ``side`` x ``side`` pixels inside the graph.
        patch: Side of a patch, pixels.
        atoms: Dictionary entries; each gives two rectified responses.
        pools: The map of responses is averaged over ``pools`` x ``pools`` fields.
        width: Length of the embedding (principal components of the pooled responses).
        patches: Patches drawn for the dictionary.
    """

    side: int = 32
    patch: int = 6
    atoms: int = 256
    pools: int = 2
    width: int = 512
    patches: int = 40_000

    def fit(self, images: list[Pixels], seed: int = 0) -> bytes:
        """Learn the dictionary and the projection.

        Args:
            images: Unlabelled images, each ``uint8 [height, width, 3]``; sizes may differ.
            seed: Seed of every random choice.

        Returns:
            An ONNX graph ``pixels UINT8 [rows, height, width, 3] -> embedding FP32 [rows, width]``.

        Raises:
            DataError: There are fewer than ten images.

        Source: Coates, Ng & Lee (2011), An analysis of single-layer networks in unsupervised feature learning;
        Coates & Ng (2012), Learning feature representations with k-means.
        """
        if len(images) < 10:
            raise DataError(f"The image encoder needs at least 10 images, got {len(images)}.", code="MW1184")
        rng = np.random.default_rng(seed)
        chosen = [images[index] for index in np.sort(rng.permutation(len(images))[:4000])]
        small = self._resized(chosen)
        whitening, atoms = learn_dictionary(small, self.patch, self.atoms, self.patches, rng)
        filters = (atoms @ whitening).astype(np.float32)
        pooled = embed_images(self._graph(filters, None, None), chosen)
        mean = pooled.mean(axis=0)
        projection = principal_components(pooled - mean, self.width, rng)
        return self._graph(filters, projection, -mean @ projection)

    def _resized(self, images: list[Pixels]) -> Floats:
        graph = Graph()
        graph.op("Identity", standardised_pixels(graph, self.side), out="embedding")
        session = graph.to_bytes(
            [Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3))],
            [Tensor(name="embedding", datatype="FP32", shape=(-1, 3, -1, -1))],
        )
        return embed_images(session, images)

    def _graph(self, filters: Floats, projection: Floats | None, bias: Floats | None) -> bytes:
        graph = Graph()
        pixels = standardised_pixels(graph, self.side)
        kernel = filters.reshape(len(filters), 3, self.patch, self.patch)
        response = graph.op("Conv", pixels, graph.constant(kernel))
        response = graph.op("Div", response, patch_contrast(graph, pixels, self.patch))
        threshold = graph.constant(np.full((), _THRESHOLD, np.float32))
        parts = []
        for sign in (response, graph.op("Neg", response)):
            active = graph.op("Relu", graph.op("Sub", sign, threshold))
            parts.append(graph.op("Flatten", self._pool(graph, active), axis=1))
        pooled = graph.op("Sqrt", graph.op("Concat", *parts, axis=1))
        if projection is None or bias is None:
            graph.op("Identity", pooled, out="embedding")
            width = 2 * len(filters) * self.pools**2
        else:
            graph.op("Gemm", pooled, graph.constant(projection), graph.constant(bias), out="embedding")
            width = projection.shape[1]
        return graph.to_bytes(
            [Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3))],
            [Tensor(name="embedding", datatype="FP32", shape=(-1, width))],
        )

    def _pool(self, graph: Graph, response: str) -> str:
        size = self.side - self.patch + 1
        field = -(-size // self.pools)
        return graph.op(
            "AveragePool", response, kernel_shape=[field, field], strides=[field, field], ceil_mode=1
        )


def standardised_pixels(graph: Graph, side: int) -> str:
    """Add the nodes from ``pixels UINT8 [rows, height, width, 3]`` to ``FP32 [rows, 3, side, side]`` in [-1, 1].

    Images of any size are resized with anti-aliasing, whatever their proportions.
    """
    floats = graph.op("Transpose", graph.op("Cast", "pixels", to=FLOAT), perm=[0, 3, 1, 2])
    batch = graph.op("Slice", graph.op("Shape", "pixels"), *_ints(graph, [0], [1]))
    sizes = graph.op("Concat", batch, graph.constant(np.array([3, side, side], np.int64)), axis=0)
    resized = graph.op("Resize", floats, "", "", sizes, mode="linear", antialias=1)
    scaled = graph.op("Mul", resized, graph.constant(np.full((), 1 / 127.5, np.float32)))
    return graph.op("Sub", scaled, graph.constant(np.ones((), np.float32)))


def patch_contrast(graph: Graph, pixels: str, patch: int) -> str:
    """Add the standard deviation of every patch, with the same floor that dictionaries are learned with."""
    ones = graph.constant(np.full((1, 3, patch, patch), 1 / (3 * patch**2), np.float32))
    mean = graph.op("Conv", pixels, ones)
    square = graph.op("Conv", graph.op("Mul", pixels, pixels), ones)
    variance = graph.op("Sub", square, graph.op("Mul", mean, mean))
    floored = graph.op("Add", graph.op("Relu", variance), graph.constant(np.full((), _FLOOR, np.float32)))
    return graph.op("Sqrt", floored)


_FLOOR = 0.002
_THRESHOLD = 0.25


def _ints(graph: Graph, *values: list[int]) -> list[str]:
    return [graph.constant(np.array(value, np.int64)) for value in values]


def embed_images(onnx: bytes, images: list[Pixels]) -> Floats:
    """Run a graph over images of any sizes, batching those of equal size."""
    session = GraphSession(onnx)
    shapes: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(index)
    rows: dict[int, Floats] = {}
    for indices in shapes.values():
        for start in range(0, len(indices), 16):
            part = indices[start : start + 16]
            found = session.run({"pixels": np.stack([images[index] for index in part])})["embedding"]
            rows.update(zip(part, found, strict=True))
    return np.stack([rows[index] for index in range(len(images))])


def learn_dictionary(
    images: Floats, patch: int, atoms: int, count: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return a whitening matrix ``[p, p]`` (its rows remove each patch's mean) and unit atoms ``[atoms, p]``."""
    side = images.shape[2] - patch + 1
    which = rng.integers(len(images), size=count)
    top, left = rng.integers(side, size=count), rng.integers(side, size=count)
    windows = np.lib.stride_tricks.sliding_window_view(images, (patch, patch), axis=(2, 3))
    drawn = windows[which, :, top, left].reshape(count, -1)
    centring = np.eye(drawn.shape[1], dtype=np.float32) - 1 / drawn.shape[1]
    normal = (drawn @ centring) / np.sqrt(drawn.var(axis=1, keepdims=True) + _FLOOR)
    values, vectors = np.linalg.eigh(np.cov(normal, rowvar=False))
    whitening = (vectors / np.sqrt(np.maximum(values, 0) + 0.1)) @ vectors.T
    white = (normal @ whitening).astype(np.float32)
    found = white[rng.permutation(count)[:atoms]]
    found /= np.linalg.norm(found, axis=1, keepdims=True) + 1e-8
    for _ in range(8):
        product = white @ found.T
        best = np.abs(product).argmax(axis=1)
        weight = product[np.arange(count), best]
        updated = np.zeros_like(found)
        np.add.at(updated, best, white * weight[:, None])
        updated += 1e-3 * found
        found = updated / np.linalg.norm(updated, axis=1, keepdims=True)
    return (whitening @ centring).astype(np.float32), found


def principal_components(centred: Floats, width: int, rng: np.random.Generator) -> Floats:
    """Return a projection ``[d, width]`` on the leading components, found by subspace iteration.

    Source: Halko, Martinsson & Tropp (2011), Finding structure with randomness.
    """
    width = min(width, len(centred) - 1, centred.shape[1])
    basis = rng.normal(size=(centred.shape[1], min(width + 20, *centred.shape))).astype(np.float32)
    for _ in range(3):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    reduced = centred @ basis
    values, vectors = np.linalg.eigh((reduced.T @ reduced).astype(np.float64))
    leading = vectors[:, np.argsort(values)[::-1][:width]].astype(np.float32)
    return np.ascontiguousarray(basis @ leading)
