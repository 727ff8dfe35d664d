"""The public sets of this benchmark as training and test samples."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from modelworks.compute.embedding import objects
from modelworks.core.task import TaskKind
from modelworks.data.samples.images import read_image_folder
from modelworks.data.samples.series import read_ts
from modelworks.data.samples.training import TrainingSamples

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_BENCHMARK_DATA", REPOSITORY.parent / "shared" / "data"))

MODALITIES = {
    "cifar10_6k": "image",
    "trashnet_half": "image",
    "ArrowHead": "series",
    "ItalyPowerDemand": "series",
    "BasicMotions": "series",
    "sst2": "text",
}


def load(name: str) -> tuple[TrainingSamples, TrainingSamples]:
    """Return the training and the test samples; official splits where there are some, else every fourth row is test."""
    if MODALITIES[name] == "series":
        parts = []
        for part in ("TRAIN", "TEST"):
            table = read_ts(DATA / "ucr_tsc_a" / f"{name}_{part}.ts").table
            parts.append((table.column("series").to_pylist(), table.column("label").to_pylist()))
        payloads = [np.array(item, np.float32) for item in parts[0][0] + parts[1][0]]
        labels = parts[0][1] + parts[1][1]
        test = np.arange(len(labels)) >= len(parts[0][1])
        return _parted(name, payloads, labels, test)
    if name == "sst2":
        payloads, labels, tests = [], [], []
        for part in ("train", "test"):
            for line in (DATA / "sst2" / f"stsa.binary.{part}").read_text(encoding="utf-8").splitlines():
                labels.append("positive" if line[0] == "1" else "negative")
                payloads.append(line[2:])
                tests.append(part == "test")
        return _parted(name, payloads, labels, np.array(tests))
    table = read_image_folder(DATA / name / "images.zip").table
    labels = table.column("label").to_pylist()
    files = table.column("file").to_pylist()
    test = np.array(["test/" in file for file in files])
    if not test.any():
        test = np.arange(len(files)) % 4 == 3
    return _parted(name, table.column("image").to_pylist(), labels, test)


def _parted(
    name: str, payloads: list[Any], labels: list[str], test: np.ndarray
) -> tuple[TrainingSamples, TrainingSamples]:
    classes = tuple(sorted(set(labels)))
    codes = np.array([classes.index(label) for label in labels], np.int64)
    order = np.random.default_rng(0).permutation(len(codes))
    found = []
    for rows in (order[~test[order]], np.flatnonzero(test)):
        found.append(
            TrainingSamples(
                payload=objects([payloads[row] for row in rows]),
                column="payload",
                modality=MODALITIES[name],  # type: ignore[arg-type]
                kind=TaskKind.BINARY if len(classes) == 2 else TaskKind.MULTICLASS,
                target=codes[rows],
                classes=classes,
                weight=None,
                folds=(np.arange(len(rows)) % 5).astype(np.int8),
            )
        )
    return found[0], found[1]
