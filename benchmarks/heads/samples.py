"""The sets of this benchmark: forty face attributes (and tasks derived from them), and sets for the few-shot curve."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from modelworks.algorithms.backbones.fusion import payload_inputs
from modelworks.algorithms.plugins import backbone_source
from modelworks.compute.embedding import embed_column, objects
from modelworks.compute.payloads import image_pixels
from modelworks.core.task import Modality, TaskKind
from modelworks.data.samples.training import TrainingSamples

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_BENCHMARK_DATA", REPOSITORY.parent / "shared" / "data"))

TRAIN = 3000
"""Faces 1 to 3000 train, 3001 to 4000 test; the same person may be in both (the set names no persons)."""


def faces(count: int | None = None) -> tuple[list[bytes], np.ndarray, list[str]]:
    """Return encoded images, attributes ``int64 [images, 40]`` and their names."""
    import csv
    import zipfile

    with (DATA / "celeba40_a" / "attributes.csv").open(encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream))
    rows = rows[:count]
    with zipfile.ZipFile(DATA / "celeba40_a" / "images.zip") as archive:
        places = {Path(name).name: name for name in archive.namelist()}
        images = [archive.read(places[row[0]]) for row in rows]
    return images, np.array([row[1:] for row in rows], np.int64), header[1:]


def derived(values: np.ndarray, names: list[str], count: int, train: int) -> tuple[np.ndarray, list[str]]:
    """Return ``count`` tasks: the attributes, then pairs of them ("a and b") with at least 30 positives in training."""
    columns, found = [values[:, index] for index in range(len(names))], list(names)
    for one, two in combinations(range(len(names)), 2):
        if len(found) >= count:
            break
        both = values[:, one] & values[:, two]
        if min(both[:train].sum(), train - both[:train].sum()) >= 30:
            columns.append(both)
            found.append(f"{names[one]}&{names[two]}")
    return np.stack(columns[:count], axis=1), found[:count]


def embedded(
    payloads: list[Any], learn: int, modality: Modality, names: list[str], seed: int = 0
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return backbones learned from the first ``learn`` payloads, and the embeddings of all of them."""
    seen: Any = [image_pixels(item) for item in payloads[:learn]] if modality == "image" else payloads[:learn]
    made = {name: backbone_source(name)().make(seen, seed) for name in names}
    return made, {
        name: embed_column(item.onnx, payload_inputs(item, "payload"), payloads)
        for name, item in made.items()
    }


def task(
    labels: np.ndarray, classes: tuple[str, ...], modality: Modality, backbones: Any, embeddings: Any
) -> TrainingSamples:
    """Return one task over embedded samples."""
    return TrainingSamples(
        payload=objects([None] * len(labels)),
        column="payload",
        modality=modality,
        kind=TaskKind.BINARY if len(classes) == 2 else TaskKind.MULTICLASS,
        target=labels.astype(np.int64),
        classes=classes,
        weight=None,
        folds=(np.arange(len(labels)) % 5).astype(np.int8),
        embeddings=embeddings,
        backbones=backbones,
    )


def with_payload(samples: TrainingSamples, payloads: list[Any]) -> TrainingSamples:
    """Return the samples with what they were made from."""
    return replace(samples, payload=objects(payloads))
