"""Visual anomalies on magnetic tiles: the line's own fit and judgement, and the heat map held against the pixel masks.

python -m benchmarks.images.anomaly --work FOLDER
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.signature import Signature
from modelworks.core.task import Limits, SplitPolicy, Task, TaskKind
from modelworks.data import open_table
from modelworks.evaluation import compare, evaluate
from modelworks.production.embedding import sample_part
from modelworks.production.reading import read_table
from modelworks.production.sample_fitting import fit_samples
from modelworks.production.sample_judging import Files, SealedSamples

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_BENCHMARK_DATA", REPOSITORY.parent / "shared" / "data"))
BINS, RESAMPLES = 2000, 1000


def task_of(share: float) -> Task:
    """Return the task; a larger sealed share than usual narrows the intervals."""
    return Task(
        name="tiles",
        data="magnetic_tile.zip",
        target="label",
        modality="image",
        kind=TaskKind.ANOMALY,
        split=SplitPolicy(test_share=share),
        limits=Limits(latency_ms=20, size_mb=40, budget_s=600),
        options={"normal": "MT_Free"},
    )


def pixel_auroc(heat: np.ndarray, masks: list[np.ndarray]) -> list[float]:
    """Return the AUROC over all pixels of the sealed images, and its 95 % interval over resampled images."""
    edges = np.quantile(heat, np.linspace(0, 1, BINS + 1))[1:-1]
    counts = np.zeros((len(masks), 2, BINS))
    for index, mask in enumerate(masks):
        spread = Image.fromarray(heat[index].astype(np.float32)).resize(
            mask.shape[::-1], Image.Resampling.BILINEAR
        )
        codes = np.searchsorted(edges, np.asarray(spread))
        for side in (0, 1):
            counts[index, side] = np.bincount(codes[mask == side], minlength=BINS)

    def area(total: np.ndarray) -> float:
        normal, strange = total / total.sum(axis=1, keepdims=True)
        below = np.cumsum(normal) - normal / 2
        return float((strange * below).sum())

    rng = np.random.default_rng(0)
    drawn = [area(counts[rng.integers(len(masks), size=len(masks))].sum(axis=0)) for _ in range(RESAMPLES)]
    return [area(counts.sum(axis=0)), *np.quantile(drawn, [0.025, 0.975]).tolist()]


def masks_of(archive: Path, files: list[str], shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    """Return one mask of 0 and 1 per image, in its size; an image without a mask has none set."""
    found = []
    with zipfile.ZipFile(archive) as opened:
        known = set(opened.namelist())
        for file, shape in zip(files, shapes, strict=True):
            name = f"{file.rsplit('.', 1)[0]}_mask.png"
            if name not in known or file.startswith("MT_Free"):
                found.append(np.zeros(shape, np.int64))
                continue
            drawn = Image.open(io.BytesIO(opened.read(name))).convert("L")
            found.append(
                (np.asarray(drawn.resize(shape[::-1], Image.Resampling.NEAREST)) > 127).astype(np.int64)
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of the table and the fit; a fit there is kept"
    )
    parser.add_argument("--share", type=float, default=0.2, help="share of each class that is sealed")
    given = parser.parse_args()
    archive, task = DATA / "magnetic_tile" / "magnetic_tile.zip", task_of(given.share)
    table, fit = given.work / "table", given.work / "fit"
    for folder in (table, fit):
        folder.mkdir(parents=True, exist_ok=True)
    if not (table / "table.arrow").exists():
        read_table(archive, None, {"skip": ["_mask"]}, table, isolate=False)
    if not (fit / "fit.json").exists():
        fit_samples(table, task, "image", sample_part(task, None), fit)
    files = Files(table=table, record=fit / "fit.json", rows=fit / "rows.npy", model=fit / "model.onnx")
    print(json.dumps(judged(archive, files, task)), flush=True)


def judged(archive: Path, files: Files, task: Task) -> dict[str, Any]:
    """Return what the shipped graph is worth on the sealed images."""
    assert files.model is not None
    record = json.loads(files.record.read_text(encoding="utf-8"))
    task = replace(task, metric=record["metric"])
    sealed = SealedSamples(files, task, record)
    signature = Signature.from_json(record["model"]["signature"])
    session = GraphSession(files.model.read_bytes())
    start = time.process_time()
    outputs = answer(session, signature, sealed.values(), sealed.rows)
    per_image = (time.process_time() - start) / sealed.rows
    plain = GraphSession((files.model.parent / "reference.onnx").read_bytes())
    others = answer(plain, signature, sealed.values(), sealed.rows)
    found = evaluate(sealed.kind, outputs, sealed.truth, sealed.classes, metric=task.metric)
    against = compare(sealed.kind, outputs, others, sealed.truth, sealed.classes, metric="roc_auc")
    names = open_table(files.table)[0].column("file").to_pylist()
    shown = [names[row] for row in sealed.numbers]
    with zipfile.ZipFile(archive) as opened:
        sizes = [Image.open(io.BytesIO(opened.read(name))).size[::-1] for name in shown]
    kinds = np.array([name.split("/")[0] for name in shown])
    by_kind = {}
    for kind in sorted(set(kinds[sealed.truth == 1])):
        rows = (kinds == kind) | (sealed.truth == 0)
        own = evaluate(
            sealed.kind, {name: values[rows] for name, values in outputs.items()}, sealed.truth[rows],
            sealed.classes, metric="roc_auc",
        )["measures"][0]  # fmt: skip
        by_kind[kind] = [own["value"], own["low"], own["high"], int((kinds == kind).sum())]
    return {
        "images": sealed.rows,
        "anomalous": int(sealed.truth.sum()),
        "learned_from": record["model"]["diagnostics"]["normal_images"],
        "measures": {item["name"]: [item["value"], item["low"], item["high"]] for item in found["measures"]},
        "reference": {key: against[key] for key in ("other", "difference", "low", "high")},
        "pixel_auroc": pixel_auroc(outputs["heat"], masks_of(archive, shown, sizes)),
        "by_kind": by_kind,
        "held_out_false_alarms": record["model"]["diagnostics"]["false_alarms"]["held_out"],
        "fit_cpu_s": record["parts"].get("fit"),
        "cpu_ms_per_image": 1000 * per_image,
        "size_mb": files.model.stat().st_size / 1e6,
    }


if __name__ == "__main__":
    main()
