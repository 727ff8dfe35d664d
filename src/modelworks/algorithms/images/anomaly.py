"""Recipe ``images.anomaly``: what is strange and where, learned from normal images only, as one graph."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.formula import write_maps
from modelworks.algorithms.backbones.patches import embed_images, standardised_pixels
from modelworks.algorithms.graph import Graph
from modelworks.algorithms.images.looks import (
    Filters,
    Look,
    Memory,
    NetworkLook,
    distance_graph,
    features_graph,
    learn_filters,
    network_graph,
    network_map,
    remember,
    write_distance,
    write_features,
)
from modelworks.compute.payloads import image_pixels
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import TaskError
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.signature import PIXELS, Signature, Tensor
from modelworks.core.task import Limits, TaskKind
from modelworks.data.samples.training import TrainingSamples

Floats = npt.NDArray[np.float32]

LEAST = 10
"""Normal images below which nothing can be said about what is normal."""
CLASSES = ("normal", "anomalous")
_TOP_SHARE = 0.01
_SMOOTH, _HEAT = 3, 5
"""Sides of the fields, in places, over which the score and the heat map are averaged."""
_GRID = 32
_SURE = 0.9
"""Confidence with which the share of false alarms stays below what was asked for."""


@dataclass(frozen=True, kw_only=True)
class ImageAnomaly:
    """Configuration.

    Attributes:
        limits: What the shipped model may cost.
        metric: Metric of the task, or ``None``.
        false_alarms: Share of normal images that may be alarmed.
        looks: Scales at which patches of images are looked at.
        network: Maps of the network of ``images.formula`` that are looked at beside them.
        atoms: Patches in the dictionary of a look.
        width: Directions of the features that are compared.
        memory: Places of normal images that are remembered, per look.
        images: Normal images that are learned from, at most; drawn by the seed where there are more.
    """

    limits: Limits = field(default_factory=Limits)
    metric: str | None = None
    false_alarms: float = 0.05
    looks: tuple[Look, ...] = (Look(64, 8, 4), Look(128, 16, 8))
    network: tuple[NetworkLook, ...] = (NetworkLook(128, 2), NetworkLook(128, 3))
    atoms: int = 64
    width: int = 64
    memory: int = 1000
    images: int = 600

    @property
    def card(self) -> Card:
        """What the recipe is."""
        return Card(
            name="images.anomaly",
            version=3,
            kinds=frozenset({TaskKind.ANOMALY}),
            summary="Distances of local features to a memory of normal places; score, alarm and heat map.",
            source="Roth et al. (2022), PatchCore; Coates, Ng & Lee (2011); Wilks (1941), tolerance limits",
            min_rows=LEAST,
        )

    def fit(
        self, train: TrainingSamples, valid: TrainingSamples | None, budget: Budget, seed: int
    ) -> FittedModel:
        """Fit on the normal rows (``target`` 0); rows of any other label are not looked at.

        The threshold is a tolerance limit over the scores that normal images get from a memory without their fold.

        Returns:
            Graph ``pixels -> score FP32 [rows], anomalous BOOL [rows], heat FP32 [rows, h, w]``; a score of 1 is the
            threshold, and the heat is on the score's scale.

        Raises:
            TaskError: Fewer than ten normal images.
        """
        start = time.process_time()
        rng = np.random.default_rng(seed)
        rows = np.flatnonzero(train.target == 0)
        if len(rows) < LEAST:
            raise TaskError(
                f"There are {len(rows)} normal images; at least {LEAST} are needed.",
                code="MW1250",
                hint="add images without a fault, labelled normal",
            )
        rows = np.sort(rng.permutation(rows)[: self.images])
        images = [image_pixels(train.payload[row], int(row)) for row in rows]
        folds = _folds(train.folds[rows])
        looks: list[Look | NetworkLook] = [*self.looks, *self.network]
        parts: list[_Part] = []
        held = []
        for look in looks:
            budget.check()
            filters = None
            if isinstance(look, NetworkLook):
                maps = embed_images(network_graph(look), images)
            else:
                filters = learn_filters(_resized(look, images), self.atoms, rng)
                maps = embed_images(features_graph(look, filters), images)
            held.append(self._held_out(look, maps, folds, budget, rng))
            parts.append((look, filters, remember(maps, self.memory, self.width, rng)))
        answer = _Answer(
            grid=max(_GRID, *(look.places for look, _, _ in parts)),
            scales=[float(distance.mean()) for distance in held],
            threshold=1.0,
        )
        scores = answer.scores(held)
        threshold = tolerance_threshold(scores, self.false_alarms)
        onnx, signature = _written(parts, _Answer(answer.grid, answer.scales, threshold), train.column)
        return FittedModel(
            onnx=onnx,
            signature=signature,
            diagnostics=_diagnostics(self, scores / threshold, time.process_time() - start),
        )

    def _held_out(
        self,
        look: Look | NetworkLook,
        maps: Floats,
        folds: npt.NDArray[np.int64],
        budget: Budget,
        rng: np.random.Generator,
    ) -> Floats:
        """Return the distances of every image's places, from memories that never saw images of its fold."""
        distance = np.empty((len(maps), 1, *maps.shape[2:]), np.float32)
        for fold in np.unique(folds):
            budget.check()
            inside = folds == fold
            memory = remember(maps[~inside], self.memory, self.width, rng)
            session = GraphSession(distance_graph(look, memory))
            distance[inside] = session.run_batched({"maps": maps[inside]}, rows=16)["distance"]
        return distance


def tolerance_threshold(scores: Floats, share: float) -> float:
    """Return the score that at most ``share`` of all further normal images exceed, with a confidence of 90 %.

    The share beyond the score of a rank follows a beta distribution. With fewer than ``least_images(share)`` scores no
    finite threshold can promise that; the highest score is returned.

    Source: Wilks (1941), Determination of sample sizes for setting tolerance limits; Vovk (2012), Conditional validity
    of inductive conformal predictors.
    """
    from scipy.stats import beta

    beyond = np.arange(len(scores))
    sure = beta.cdf(share, beyond + 1, len(scores) - beyond)
    fits = np.flatnonzero(sure >= _SURE)
    return float(np.sort(scores)[::-1][int(fits.max()) if len(fits) else 0])


def least_images(share: float) -> int:
    """Return the normal images that a threshold with such a promise needs."""
    return math.ceil(math.log(1 - _SURE) / math.log(1 - share))


_Part = tuple[Look | NetworkLook, Filters | None, Memory]


@dataclass(frozen=True)
class _Answer:
    """How distances become a heat map and a score."""

    grid: int
    scales: Sequence[float]
    threshold: float

    def write(self, graph: Graph, distances: Sequence[str]) -> tuple[str, str]:
        """Return heat ``[rows, grid, grid]`` and score ``[rows]``, both in units of the threshold."""
        sizes = graph.constant([1, self.grid, self.grid], np.int64)
        parts = []
        for distance, scale in zip(distances, self.scales, strict=True):
            batch = graph.op("Shape", distance, start=0, end=1)
            wanted = graph.op("Concat", batch, sizes, axis=0)
            spread = graph.op("Resize", distance, "", "", wanted, mode="linear")
            parts.append(graph.scaled(spread, 1 / (scale * len(self.scales) * self.threshold)))
        total = graph.total(parts)
        heat = graph.op("Squeeze", _smoothed(graph, total, _HEAT, 0), graph.constant([1], np.int64))
        # The score counts less at the edges, where half of what is averaged is padding: normal edges are odd as well.
        flat = graph.op("Flatten", _smoothed(graph, total, _SMOOTH, 1), axis=1)
        count = graph.constant([max(1, round(_TOP_SHARE * self.grid**2))], np.int64)
        top = graph.ops("TopK", flat, count, outs=(None, None), axis=1)[0]
        return heat, graph.op("ReduceMean", top, graph.constant([1], np.int64), keepdims=0)

    def scores(self, held: Sequence[Floats]) -> Floats:
        """Return the scores of images whose distances are known."""
        graph = Graph()
        names = [f"distance{index}" for index in range(len(held))]
        graph.rename(self.write(graph, names)[1], "score")
        onnx = graph.to_bytes(
            [
                Tensor(name=name, datatype="FP32", shape=(-1, *values.shape[1:]))
                for name, values in zip(names, held, strict=True)
            ],
            [Tensor(name="score", datatype="FP32", shape=(-1,))],
        )
        found = GraphSession(onnx).run_batched(dict(zip(names, held, strict=True)), rows=64)["score"]
        return np.asarray(found, np.float32)


def _smoothed(graph: Graph, values: str, size: int, padded: int) -> str:
    near = [size // 2] * 4
    return graph.op("AveragePool", values, kernel_shape=[size] * 2, pads=near, count_include_pad=padded)


def _written(parts: Sequence[_Part], answer: _Answer, column: str) -> tuple[bytes, Signature]:
    graph = Graph()
    sides: dict[int, tuple[str, ...]] = {}
    distances = []
    for look, filters, memory in parts:
        if isinstance(look, NetworkLook):
            if look.side not in sides:
                sides[look.side] = write_maps(graph, look.side)
            maps = network_map(graph, look, sides[look.side])
        else:
            assert filters is not None
            maps = write_features(graph, look, filters)
        distances.append(write_distance(graph, maps, memory))
    heat, score = answer.write(graph, distances)
    graph.rename(heat, "heat")
    graph.rename(score, "score")
    graph.op("Greater", score, graph.constant(1, np.float32), out="anomalous")
    signature = Signature(
        inputs=(Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3), columns=(column,)),),
        outputs=(
            Tensor(name="score", datatype="FP32", shape=(-1,)),
            Tensor(name="anomalous", datatype="BOOL", shape=(-1,)),
            Tensor(name="heat", datatype="FP32", shape=(-1, answer.grid, answer.grid)),
        ),
        classes=CLASSES,
    )
    return graph.finish(signature), signature


def _resized(look: Look, images: Sequence[npt.NDArray[np.uint8]]) -> Floats:
    graph = Graph()
    graph.rename(standardised_pixels(graph, look.side), "embedding")
    onnx = graph.to_bytes(
        [Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3))],
        [Tensor(name="embedding", datatype="FP32", shape=(-1, 3, look.side, look.side))],
    )
    return embed_images(onnx, list(images))


def _folds(folds: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Return the folds of the task, or five by position where its normal rows all lie in one."""
    if len(np.unique(folds)) > 1:
        return folds.astype(np.int64)
    return np.arange(len(folds)) % 5


def _diagnostics(recipe: ImageAnomaly, scores: Floats, cpu_s: float) -> dict[str, Any]:
    alarmed = float((scores > 1).mean())
    looks: list[Look | NetworkLook] = [*recipe.looks, *recipe.network]
    kept = {"name": "images.anomaly", "oof_loss": alarmed, "cpu_s": cpu_s, "weight": 1.0, "kept": True}
    enough = len(scores) >= least_images(recipe.false_alarms)
    return {
        "members": [kept],
        "chosen": f"memory of normal places in {len(looks)} looks; held-out false alarms {alarmed:.1%}",
        "threshold": 1.0,
        "normal_images": len(scores),
        "false_alarms": {
            "wanted": recipe.false_alarms,
            "confidence": _SURE,
            "held_out": alarmed,
            "enough_images": enough,
        },
        "held_out_quantiles": [float(value) for value in np.quantile(scores, [0, 0.25, 0.5, 0.75, 0.95, 1])],
        "looks": [asdict(look) for look in looks],
    }
