"""What the n-th task costs on cached embeddings: CPU, wall time and memory of 1, 40 and 200 tasks.

    OMP_NUM_THREADS=1 python -m benchmarks.heads.cost [--head ridge] [--backbone images.patches] [--no-networks]

Every measurement is a process of its own that maps the cached embeddings, fits all heads and writes their graphs;
counts alternate, and the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.heads.results import record
from benchmarks.heads.samples import TRAIN, derived, embedded, faces, task
from modelworks.algorithms.plugins import estimator
from modelworks.core.backbone import Backbone
from modelworks.core.budget import Budget
from modelworks.training.heads import choice

COUNTS = (1, 40, 200)
BACKBONE = "images.formula"


def peak_mb() -> float:
    """Return the most memory this process has held, MiB (what it was forked from does not count)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def child(folder: Path, count: int, missing: float, head: str, networks: bool) -> dict[str, Any]:
    """Fit ``count`` heads; ``missing`` is the share of labels that every task lacks, at random.

    One task alone may try a network too, which hundreds may not: without networks all counts try the same.
    """
    if not networks:
        choice.UNASKED_CPU_S["network"] = 0.0
    labels = np.load(folder / "labels.npy")[:TRAIN, :count]
    if missing:
        labels = np.where(np.random.default_rng(0).random(labels.shape) < missing, -1, labels)
    embeddings = np.load(folder / "embeddings.npy", mmap_mode="r")[:TRAIN]
    backbone = Backbone(name=BACKBONE, modality="image", onnx=b"", width=embeddings.shape[1], licence="")
    samples = [
        task(labels[:, index], ("no", "yes"), "image", {BACKBONE: backbone}, {BACKBONE: embeddings})
        for index in range(count)
    ]
    recipe = estimator("samples.heads")(head=head)
    recipe.fit_all([_small(samples[0])], Budget(600), 0)  # Imports and first calls are not what a task costs.
    before = peak_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    heads = recipe.fit_all(samples, Budget(600), 0)
    sizes = [len(head.onnx) for head in heads]
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_mb": peak_mb(),
        "before_mb": before,
        "heads_mb": sum(sizes) / 1e6,
    }


def _small(samples: Any) -> Any:
    rows = np.concatenate([np.flatnonzero(samples.target == code)[:20] for code in (0, 1)])
    return samples.take(rows)


def main() -> int:
    """Cache the embeddings, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--head", default="auto")
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--no-networks", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "COUNT"))
    arguments = parser.parse_args()
    if arguments.child:
        folder, count = Path(arguments.child[0]), int(arguments.child[1])
        networks = not arguments.no_networks
        print(json.dumps(child(folder, count, arguments.missing, arguments.head, networks)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, values, names = faces()
        start = time.process_time()
        _, embeddings = embedded(images, TRAIN, "image", [arguments.backbone])
        embed_s = time.process_time() - start
        np.save(folder / "embeddings.npy", embeddings[arguments.backbone])
        np.save(folder / "labels.npy", derived(values, names, max(COUNTS), TRAIN)[0])
        found: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
        for _ in range(arguments.repeats):
            for count in COUNTS:
                command = [sys.executable, "-m", "benchmarks.heads.cost", "--child", name, str(count)]
                command += ["--missing", str(arguments.missing), "--head", arguments.head]
                command += ["--no-networks"] if arguments.no_networks else []
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[count].append(json.loads(done.stdout))
    one = float(np.median([item["cpu_s"] for item in found[1]]))
    for count, measured in found.items():
        middle = {key: round(float(np.median([item[key] for item in measured])), 4) for key in measured[0]}
        record(
            {"part": "cost", "head": arguments.head, "tasks": count, "missing": arguments.missing,
             "backbone": arguments.backbone, "networks": not arguments.no_networks,
             "repeats": len(measured), **middle,
             "times_one": round(middle["cpu_s"] / one, 2), "rows": TRAIN, "embed_cpu_s": round(embed_s, 1)}
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
