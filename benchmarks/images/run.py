"""Image classification through ``mw.produce`` on public sets: from a folder of files to a judged package.

    OMP_NUM_THREADS=1 python -m benchmarks.images.run trashnet_half,cifar10_6k
    OMP_NUM_THREADS=1 python -m benchmarks.images.run trashnet_half --backbone images.patches
    OMP_NUM_THREADS=1 python -m benchmarks.images.run trashnet_half --escalate 300

Measures are those of the shipped graph on sealed images, with intervals; the baseline is the best of a constant and
a head on 8 x 8 pixels. Rows are appended to ``results/`` as they are found.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import resource
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_BENCHMARK_DATA", REPOSITORY.parent / "shared" / "data"))
RESULTS = Path(__file__).parent / "results" / "2026-11-26-layout.jsonl"
ATTRIBUTE = "Smiling"
NAMES = ("trashnet_half", "cifar10_6k", "neu_det", "brain_mri", "celeba40_a", "magnetic_tile")


def filed(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield ``[part/]class/file`` and the bytes of every image of a set."""
    archive = next((DATA / name).glob("*.zip"))
    labels: dict[str, str] = {}
    if name == "celeba40_a":
        text = (DATA / name / "attributes.csv").read_text(encoding="utf-8")
        for row in csv.DictReader(io.StringIO(text)):
            part = "train" if int(row["image_id"].split(".")[0]) <= 3000 else "test"
            key = f"{int(row['image_id'].split('.')[0]):06}"
            labels[key] = f"{part}/{'yes' if row[ATTRIBUTE] == '1' else 'no'}"
    with zipfile.ZipFile(archive) as opened:
        for member in opened.namelist():
            path = Path(member)
            if path.suffix.lower() not in {".jpg", ".jpeg", ".png"} or "_mask" in path.name:
                continue
            place = member
            if name == "celeba40_a":
                place = f"{labels[path.stem]}/{path.name}"
            elif name == "neu_det":
                place = f"{path.name.rsplit('_', 1)[0]}/{path.name}"
            yield place, opened.read(member)


def produced(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return what came out of one order over one set."""
    import modelworks as mw

    options: dict[str, Any] = {}
    if given.backbone:
        options["backbone"] = given.backbone
    if given.escalate:
        options["escalate"] = "always"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / name
        for place, data in filed(name):
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        result = mw.produce(
            str(folder), "label", name=name.replace("_", "-"), home=Path(work) / "home", slots=1, metric="accuracy",
            budget=f"{given.escalate or 300}s", options=options, limits={"latency_ms": 100, "size_mb": 20},
            explain=False,
        )  # fmt: skip
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = result.line
        return {
            "set": name,
            "asked": given.backbone or "default",
            "escalate": given.escalate,
            "verdict": result.verdict.kind.value,
            "cause": result.verdict.cause,
            "rows": line.rows,
            "measures": {item.name: [item.value, item.low, item.high] for item in line.measures},
            "baseline": line.baseline,
            "chosen": line.chosen,
            "p99_ms": line.latency_ms,
            "size_mb": line.size_mb,
            "cpu_s": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1),
            "wall_s": round(time.perf_counter() - start, 1),
        }


def main() -> None:
    """Run the sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="?", default=",".join(NAMES))
    parser.add_argument("--backbone", default="", help="compare no others, but take this one")
    parser.add_argument(
        "--escalate", type=int, default=0, help="CPU-seconds for a network of its own; 0 for none"
    )
    given = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    for name in given.names.split(","):
        row = produced(name, given)
        with RESULTS.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
