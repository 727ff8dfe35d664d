"""Where models run, on a machine with a CUDA device: the choice, the answers, the throughput.

    python -m benchmarks.serving.devices FOLDER [--out results/DATE-devices.json]

Needs ``onnxruntime-gpu`` in place of ``onnxruntime``. Packages of the tree, the CNN and MiniLM with a head are made and
signed in FOLDER unless they are there. Each goes through the loader with ``device=auto`` (signature, proof in the
limited child, golden examples on the device, measured choice), then 64 clients ask the data plane for one row at a
time, on the CPU and with ``auto``, without the cache of embeddings; last, bare sessions are timed by batch.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.models import cnn_model, tree_model, write_package
from benchmarks.serving.sentences import NAME, texts, write_sentences

CLIENTS, SECONDS, POOL = 64, 1.5, 4


def write_packages(folder: Path) -> Path:
    """Make what is not there; returns the folder of packages."""
    packages = folder / "packages"
    for model in (tree_model(), cnn_model()):
        if not (packages / model.name).exists():
            write_package(folder, model)
    if not (packages / NAME).exists():
        write_sentences(folder)
    return packages


def feeds_of(source: Any, rows: int) -> dict[str, Any]:
    """Return one batch: sentences of 24 words, else golden rows without a missing value."""
    from modelworks.compute.feeds import pack_rows

    if source.name == NAME:
        return pack_rows(source.signature, [{"text": text} for text in texts(rows, 24)])
    known = source.read().examples["rows"][:3]
    whole = [row for row in known if all(value is not None for value in row.values())]
    return pack_rows(source.signature, [whole[number % len(whole)] for number in range(rows)])


def check(source: Any) -> dict[str, Any]:
    """Answer on both and compare; replay the golden examples on the device."""
    from modelworks.compute.runtime import CPU, CUDA, GraphSession
    from modelworks.serving.devices import replayed

    model = source.read()
    there = GraphSession(model.onnx, arena=False, providers=(CUDA, CPU))
    here = GraphSession(model.onnx, arena=False)
    largest = 0.0
    for rows in (1, 3, 16):
        feeds = feeds_of(source, rows)
        for one, other in zip(there.run(feeds).values(), here.run(feeds).values(), strict=True):
            if one.dtype.kind == "f":
                largest = max(largest, float(np.abs(one - other).max()))
            else:
                assert one.tolist() == other.tolist()
    return {
        "device": there.device,
        "golden": replayed(there, source.signature, model.examples) or "hold",
        "largest_difference": largest,
    }


async def plane(sources: list[Any], wanted: str, proofs: Any, trust: Any) -> dict[str, Any]:
    """Answers a second of every model behind one data plane."""
    from modelworks.serving.dataplane import DataPlane, PlaneLimits
    from modelworks.serving.deployments import Deployments
    from modelworks.serving.devices import Devices
    from modelworks.serving.journal import Journal
    from modelworks.serving.lane import LaneLimits
    from modelworks.serving.loading import Loader, LoadLimits
    from modelworks.serving.pool import WorkerPool
    from modelworks.serving.residency import Residency

    loop = asyncio.get_running_loop()
    pool = WorkerPool(loop, POOL)
    loader = Loader(proofs, LoadLimits(cache_bytes=0), Devices(wanted))
    residency = Residency(loop, loader, pool, cap_bytes=4 * 2**30, lane_limits=LaneLimits())
    served = DataPlane(loop, residency, PlaneLimits(deadline_s=60.0))
    Deployments(served, Journal(None), trust).serve(sources)
    found = {}
    for source in sources:
        feeds = feeds_of(source, 1)
        answered = 0

        async def ask(name: str = source.name, feeds: dict[str, Any] = feeds) -> Any:
            return await served.infer(served.resolve(name), dict(feeds))

        await ask()
        stop = loop.time() + SECONDS

        async def client(stop: float = stop, ask: Any = ask) -> None:
            nonlocal answered
            while loop.time() < stop:
                await ask()
                answered += 1
                await asyncio.sleep(0)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        resident = served.resolve(source.name).resident
        found[source.name] = {
            "device": resident.device,
            "why": resident.device_note,
            "per_s": round(answered / SECONDS, 1),
        }
    residency.close()
    pool.close()
    return found


def throughput(source: Any) -> dict[str, Any]:
    """Milliseconds a batch of bare sessions."""
    from modelworks.compute.runtime import CPU, CUDA, GraphSession

    onnx = source.read().onnx
    many = min(16, os.cpu_count() or 1)
    table: dict[str, dict[int, float]] = {}
    for label, threads, providers in (
        ("cpu, 1 thread", 1, (CPU,)), (f"cpu, {many} threads", many, (CPU,)), ("cuda", 1, (CUDA, CPU)),
    ):  # fmt: skip
        session = GraphSession(onnx, threads=threads, arena=False, providers=providers)
        table[label] = {}
        for rows in (1, 8, 64, 256):
            feeds = feeds_of(source, rows)
            session.run(feeds)
            runs, start = 0, time.perf_counter()
            while time.perf_counter() - start < 0.25 or runs < 3:
                session.run(feeds)
                runs += 1
            spent = (time.perf_counter() - start) / runs
            table[label][rows] = round(spent * 1e3, 3)
            if spent > 0.2:
                break
    return table


def main() -> None:
    """Run every part and write what was found."""
    from modelworks.compute.device import this_machine
    from modelworks.compute.runtime import cuda_lacking
    from modelworks.packaging.package import TrustPolicy
    from modelworks.serving.devices import Devices
    from modelworks.serving.loading import Loader, LoadLimits
    from modelworks.serving.packages import package_source
    from modelworks.serving.proofs import Proofs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    packages = write_packages(told.folder)
    trust = TrustPolicy.of_folder(told.folder / "home" / "keys")
    sources = [package_source(path, trust) for path in sorted(packages.iterdir())]
    proofs = Proofs(told.folder / "home" / "proofs")
    found: dict[str, Any] = {"machine": this_machine().to_json(), "lacking": cuda_lacking()}
    if not found["lacking"]:
        found["answers"] = {source.name: check(source) for source in sources}
    found["choice"] = {}
    for source in sources:
        loaded = Loader(proofs, LoadLimits(), Devices("auto")).load(source)
        found["choice"][source.name] = {
            "device": loaded.device, "why": loaded.note, "curve_ms": loaded.curve.to_json(),
        }  # fmt: skip
    found["plane"] = {
        wanted: asyncio.run(plane(sources, wanted, proofs, trust)) for wanted in ("cpu", "auto")
    }
    found["ms_a_batch"] = (
        {source.name: throughput(source) for source in sources} if not found["lacking"] else {}
    )
    print(json.dumps(found, indent=1))
    if told.out is not None:
        told.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
