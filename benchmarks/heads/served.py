"""Forty heads in the engine: one combined request against forty single ones, in process.

OMP_NUM_THREADS=1 python -m benchmarks.heads.served
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time

import numpy as np

from benchmarks.heads.results import record
from benchmarks.heads.samples import TRAIN, embedded, faces, task
from modelworks.algorithms.plugins import estimator
from modelworks.compute.payloads import image_pixels
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.packaging.golden import golden_examples
from modelworks.packaging.package import TrustPolicy
from modelworks.serving.dataplane import DataPlane, PlaneLimits
from modelworks.serving.deployments import Deployments
from modelworks.serving.journal import Journal
from modelworks.serving.lane import LaneLimits
from modelworks.serving.loading import Loader, LoadLimits
from modelworks.serving.model import MemorySource
from modelworks.serving.pool import WorkerPool
from modelworks.serving.proofs import Proofs
from modelworks.serving.residency import Residency

BACKBONE = "images.formula"


async def measure(sources: list[MemorySource], images: list[np.ndarray], repeats: int) -> None:
    """Ask for all heads of one image together, then one by one; every image is new to the cache."""
    loop = asyncio.get_running_loop()
    pool = WorkerPool(loop, 1)
    residency = Residency(
        loop, Loader(Proofs(None), LoadLimits()), pool, cap_bytes=2**30, lane_limits=LaneLimits()
    )
    plane = DataPlane(loop, residency, PlaneLimits(rows=1000, deadline_s=30.0))
    Deployments(plane, Journal(None), TrustPolicy()).serve(sources)
    targets = [plane.resolve(item.name) for item in sources]
    fresh = iter(images)
    for target in targets:
        await plane.infer(target, {"pixels": next(fresh)[None]})
    lanes = {id(target.resident.lane) for target in targets if target.resident is not None}
    together, apart, one = [], [], []
    for _ in range(repeats):
        image = next(fresh)[None]
        start = time.perf_counter()
        await plane.infer(targets[0], {"pixels": image})
        one.append(time.perf_counter() - start)
        image = next(fresh)[None]
        start = time.perf_counter()
        answers = await plane.infer_many(targets, {"pixels": image})
        together.append(time.perf_counter() - start)
        assert not any(isinstance(answer, Exception) for answer in answers)
        start = time.perf_counter()
        for target in targets:
            await plane.infer(target, {"pixels": next(fresh)[None]})
        apart.append(time.perf_counter() - start)
    record(
        {
            "part": "served",
            "heads": len(sources),
            "sessions": len(lanes),
            "one_ms": round(float(np.median(one)) * 1e3, 2),
            "together_ms": round(float(np.median(together)) * 1e3, 2),
            "apart_ms": round(float(np.median(apart)) * 1e3, 2),
            "resident_mb": round(residency.room.used_bytes / 1e6, 1),
            "packages_mb": round(sum(len(item.onnx) for item in sources) / 1e6, 1),
        }
    )
    residency.close()
    pool.close()


def main() -> int:
    """Fit forty heads and serve them."""
    images, values, names = faces(TRAIN)
    backbones, found = embedded(images, 1000, "image", [BACKBONE])
    heads = estimator("samples.heads")().fit_all(
        [task(values[:, index], ("no", "yes"), "image", backbones, found) for index in range(len(names))],
        Budget(600),
        0,
    )
    rows = [{"payload": base64.b64encode(item).decode()} for item in images[:2]]
    sources = []
    for name, head in zip(names, heads, strict=True):
        model = head.fused(backbones[BACKBONE], "payload")
        golden = golden_examples(GraphSession(model.onnx), model.signature, rows)
        digest = hashlib.sha256(name.encode() + model.onnx).hexdigest()
        sources.append(
            MemorySource(
                name=name, digest=digest, signature=model.signature, onnx=model.onnx, examples=golden
            )
        )
    pixels = [image_pixels(item) for item in images]
    asyncio.run(measure(sources, pixels, 20))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
