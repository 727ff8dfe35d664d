"""An attribute order over fashion images, through ``mw.order``, beside separately fitted linear models on the pixels.

    OMP_NUM_THREADS=1 python -m benchmarks.heads.fashion FILE.csv [--train 700]

``FILE.csv`` is a part of Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, MIT licence) in its common table form: ``label``
and 784 pixels a row; the set is not in the data at hand. The first rows train, the rest are sealed. Thirteen tasks: the
kind of garment, one for each kind, and two groups of kinds. Measures are those of the shipped graphs.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.heads.order import used_cpu_s

KINDS = ("tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
GROUPS = {"footwear": (5, 7, 9), "tops": (0, 2, 4, 6)}
RESULTS = Path(__file__).parent / "results" / "2026-11-26-fashion.jsonl"


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels ``uint8 [images, 28, 28]`` and kinds ``int64 [images]``."""
    table = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64)
    return table[:, 1:].reshape(-1, 28, 28).astype(np.uint8), table[:, 0]


def targets_of(kinds: np.ndarray) -> dict[str, np.ndarray]:
    """Return the answers of every task."""
    found = {"kind": np.array(KINDS)[kinds]}
    found |= {f"is_{name}": (kinds == number).astype(int) for number, name in enumerate(KINDS)}
    return found | {name: np.isin(kinds, members).astype(int) for name, members in GROUPS.items()}


def write_set(folder: Path, pixels: np.ndarray, targets: dict[str, np.ndarray], train: int) -> None:
    """Write the images and one table for each part."""
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for number, image in enumerate(pixels):
            encoded = io.BytesIO()
            Image.fromarray(image).convert("RGB").save(encoded, "PNG")
            archive.writestr(f"{number:05}.png", encoded.getvalue())
    for name, rows in (("train", range(train)), ("test", range(train, len(pixels)))):
        with (folder / f"{name}.csv").open("w", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["photo", *targets])
            writer.writerows([f"{row:05}.png", *(column[row] for column in targets.values())] for row in rows)


def probes(pixels: np.ndarray, targets: dict[str, np.ndarray], train: int) -> dict[str, tuple[float, float]]:
    """Fit a logistic regression on the pixels for each task apart; returns accuracy and CPU-seconds of each."""
    from sklearn.linear_model import LogisticRegressionCV

    flat, found = pixels.reshape(len(pixels), -1) / 255.0, {}
    for name, answers in targets.items():
        start = time.process_time()
        model = LogisticRegressionCV(Cs=np.logspace(-3, 1, 5), cv=3, max_iter=500)
        model.fit(flat[:train], answers[:train])
        accuracy = float((model.predict(flat[train:]) == answers[train:]).mean())
        found[name] = accuracy, time.process_time() - start
    return found


def main() -> int:
    """Make the order and the probes."""
    import modelworks as mw

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--train", type=int, default=700)
    given = parser.parse_args()
    pixels, kinds = read(given.file)
    targets = targets_of(kinds)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_set(folder, pixels, targets, given.train)
        line = {
            "data": str(folder / "train.csv"), "files": str(folder / "images.zip"), "metric": "accuracy",
            "split": {"test_data": str(folder / "test.csv")},
        }  # fmt: skip
        for label, asked in (("one", ["kind"]), ("all", list(targets))):
            cpu, wall = used_cpu_s(), time.perf_counter()
            order = mw.order(
                {"name": label, "tasks": [{**line, "targets": asked}]}, home=folder / "home", slots=1
            )
            cost = {"cpu_s": round(used_cpu_s() - cpu, 1), "wall_s": round(time.perf_counter() - wall, 1)}
            rows.append(
                {"order": label, "tasks": len(asked), "images": len(pixels), "train": given.train, **cost}
            )
        apart = probes(pixels, targets, given.train)
        for item in order:
            measure = item.line.primary
            rows.append(
                {
                    "task": item.line.target[0],
                    "verdict": str(item.verdict.kind),
                    "cause": item.verdict.cause,
                    "accuracy": [measure.value, measure.low, measure.high] if measure else None,
                    "chosen": item.line.chosen,
                    "probe": [round(value, 4) for value in apart[item.line.target[0]]],
                }
            )
    with RESULTS.open("a", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
