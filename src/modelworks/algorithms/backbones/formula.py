"""The backbone ``images.formula``: a small network trained on formula-made pictures, beside the images' own patches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.patches import (
    PatchEncoder,
    embed_images,
    principal_components,
    standardised_pixels,
)
from modelworks.algorithms.backbones.sources import OWN
from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.core.backbone import Backbone, BackboneCard
from modelworks.core.errors import StorageError
from modelworks.core.signature import PIXELS, Tensor

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

WEIGHTS, CARD = "formula.onnx", "formula.json"
WEIGHTS_SHA256 = "186a93e0be221b105994a7c4fd3d4841d5763100ea074f5ec0ebed37f5120d47"
STRIDES = (2, 4, 8, 16)
SMALL, LARGE = 64, 96
"""Sides that images are resized to: the first for images whose shorter side is at most that long, else the second."""
_LEVELS = (1, 2, 3)
_SHARE = 0.7
"""Length of the layout and of the patches beside the network's means, whose length is 1."""
_FIELDS = {SMALL: 4, LARGE: 6}
_CHANNELS = (24, 48, 64)
"""Directions kept of the channels of each map before its fields are laid side by side."""
_PIXELS = [Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3))]


@dataclass(frozen=True, kw_only=True)
class FormulaSource:
    """Configuration of ``images.formula``.

    Attributes:
        side: Images are resized to ``side`` x ``side`` pixels for the network; 0 chooses 64 or 96 by their own sizes.
        layout: Leading directions of the maps over a grid of fields (what is where); 0 for the means alone.
            The grid has 4 x 4 fields at side 64, 6 x 6 at side 96, 2 x 2 elsewhere.
        patches: Atoms of the patch dictionary that is learned beside it; 0 for the network alone.
    """

    side: int = 0
    layout: int = 256
    patches: int = 256

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="images.formula",
            modality="image",
            summary="A small network that saw pictures of formulas only, what is where, and patches of the images.",
            source="Baradad et al. (2021), Learning to see by looking at noise; Chen et al. (2020); Coates & Ng (2012)",
            licence=OWN,
            fitted=True,
            min_samples=10,
            cost_ms=5.0,
            fit_s=7.0,
            fit_ms=3.8,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Scale the network's features, and fit layout and patches, on images without labels (``uint8 [h, w, 3]``)."""
        images = list(samples)
        side = self.side or side_for(images)
        chosen = [images[row] for row in np.unique(np.linspace(0, len(images) - 1, 1000).astype(np.int64))]
        rng = np.random.default_rng(seed)
        graph = Graph()
        maps = write_maps(graph, side)
        means, width = _equal_spread(graph, _pooled(graph, maps, side, 1), _seen(side, 1, chosen)), _width(1)
        parts = [means]
        if self.layout:
            found, wide = _laid_out(graph, maps, side, chosen, self.layout, rng)
            parts.append(found)
            width += wide
        if self.patches:
            from onnx import load_model_from_string

            fitted = PatchEncoder(atoms=self.patches).fit(images, seed)
            seen = embed_images(fitted, chosen)
            (own,) = graph.adopt(load_model_from_string(fitted), {PIXELS: PIXELS})
            spread = float(np.sqrt((seen**2).sum(axis=1).mean())) + 1e-6
            parts.append(graph.scaled(own, _SHARE / spread))
            width += seen.shape[1]
        graph.op("Concat", *parts, axis=1, out="embedding")
        return Backbone(
            name=self.card.name,
            modality="image",
            onnx=graph.to_bytes(_PIXELS, [Tensor(name="embedding", datatype="FP32", shape=(-1, width))]),
            width=width,
            licence=OWN,
            about={
                "source": self.card.source,
                "settings": {**asdict(self), "side": side},
                "fitted_on": len(images),
                "weights": weights_card(),
            },
        )


def side_for(images: Sequence[Pixels]) -> int:
    """Return the side to which images of these sizes are resized."""
    return SMALL if np.median([min(image.shape[:2]) for image in images]) <= SMALL else LARGE


@cache
def weights_card() -> dict[str, Any]:
    """Return how the weights were made."""
    found: dict[str, Any] = json.loads((files(__package__) / CARD).read_text(encoding="utf-8"))
    return found


@cache
def _weights() -> Any:
    from onnx import load_model_from_string

    data = (files(__package__) / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise StorageError(
            f"The file {WEIGHTS} of this installation is damaged.",
            code="MW4061",
            hint="pip install --force-reinstall modelworks",
        )
    return load_model_from_string(data)


def write_maps(graph: Graph, side: int) -> tuple[str, ...]:
    """Add the nodes from ``pixels`` to the network's maps at strides 2, 4, 8 and 16 of ``side`` x ``side`` pixels.

    Raises:
        StorageError: The weights are damaged.
    """
    return graph.adopt(_weights(), {"image": standardised_pixels(graph, side)})


def map_widths() -> tuple[int, ...]:
    """Return the channels of the maps."""
    return tuple(weights_card()["widths"])


def _width(fields: int) -> int:
    return sum(map_widths()[level] for level in _LEVELS) * fields**2


def _pooled(graph: Graph, maps: Sequence[str], side: int, fields: int) -> str:
    """Add the nodes from maps to their means over ``fields`` x ``fields`` parts of the image, as rows."""
    flat = [graph.op("Flatten", part, axis=1) for part in _over_fields(graph, maps, side, fields)]
    return graph.op("Concat", *flat, axis=1)


def _over_fields(graph: Graph, maps: Sequence[str], side: int, fields: int) -> list[str]:
    """Add the nodes from maps to the roots of their means, ``[rows, channels, fields, fields]`` each."""
    found = []
    for level in _LEVELS:
        size = side // STRIDES[level] // fields
        mean = graph.op("AveragePool", maps[level], kernel_shape=[size] * 2, strides=[size] * 2)
        found.append(graph.op("Sqrt", mean))
    return found


def _seen(side: int, fields: int, images: list[Pixels]) -> Floats:
    graph = Graph()
    graph.rename(_pooled(graph, write_maps(graph, side), side, fields), "embedding")
    onnx = graph.to_bytes(_PIXELS, [Tensor(name="embedding", datatype="FP32", shape=(-1, _width(fields)))])
    return embed_images(onnx, images)


def _factors(seen: Floats) -> tuple[Floats, Floats]:
    """Return means, and factors that give features equal spread and rows a mean squared length of about one."""
    spread = seen.std(axis=0) + 1e-2 * seen.std() + 1e-6
    return seen.mean(axis=0).astype(np.float32), (1 / (spread * np.sqrt(seen.shape[1]))).astype(np.float32)


def _equal_spread(graph: Graph, values: str, seen: Floats) -> str:
    mean, factor = _factors(seen)
    return graph.op("Mul", graph.op("Sub", values, graph.constant(mean)), graph.constant(factor))


def _laid_out(
    graph: Graph, maps: Sequence[str], side: int, images: list[Pixels], width: int, rng: np.random.Generator
) -> tuple[str, int]:
    """Add what is where: per map the leading directions of its channels, at equal spread, in every field of a grid;
    then the leading directions of all fields together, whose weights are kept in 16 bits."""
    fields = _FIELDS.get(side, 2)
    seen = _seen(side, fields, images)
    flat, rows, start = [], [], 0
    for level, keep, pooled in zip(_LEVELS, _CHANNELS, _over_fields(graph, maps, side, fields), strict=True):
        channels = map_widths()[level]
        end = start + channels * fields**2
        places = seen[:, start:end].reshape(len(seen), channels, -1).transpose(0, 2, 1)
        project, bias = _whitened(places.reshape(-1, channels), keep)
        found = places @ project + bias
        length = float(np.sqrt((found**2).sum(axis=(1, 2)).mean())) + 1e-6
        kernel = np.ascontiguousarray(project.T / length)[:, :, None, None]
        flat.append(
            graph.op(
                "Flatten",
                graph.op("Conv", pooled, graph.constant(kernel), graph.constant(bias / length)),
                axis=1,
            )
        )
        rows.append((found / length).transpose(0, 2, 1).reshape(len(seen), -1))
        start = end
    side_by_side = np.concatenate(rows, axis=1)
    mean = side_by_side.mean(axis=0)
    project = principal_components(side_by_side - mean, width, rng)
    length = float(np.sqrt((((side_by_side - mean) @ project) ** 2).sum(axis=1).mean())) + 1e-6
    half = (project * (_SHARE / length)).astype(np.float16)
    centred = graph.op("Sub", graph.op("Concat", *flat, axis=1), graph.constant(mean))
    return graph.op("MatMul", centred, graph.cast(graph.constant(half), FLOAT)), half.shape[1]


def _whitened(places: Floats, keep: int) -> tuple[Floats, Floats]:
    """Return a projection ``[d, keep]`` on the leading directions of rows at nearly equal spread, and its bias."""
    mean = places.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((places - mean).astype(np.float64), rowvar=False))
    values, vectors = np.maximum(values[::-1][:keep], 0), vectors[:, ::-1][:, :keep]
    project = (vectors / np.sqrt(values + 0.01 * values[0] + 1e-12)).astype(np.float32)
    return project, (-mean @ project).astype(np.float32)
