"""Threads of a run: what ``run_threads`` 0 (measured) chooses for MiniLM, and what each choice does under load.

    python -m benchmarks.serving.threads FOLDER [--seconds 2] [--rounds 2] [--out results/DATE-threads.json]

The package of MiniLM with a head is made and signed in FOLDER unless it is there. It goes through the loader
(signature, proof in the limited child, choice), then closed loops of 1 and 16 clients ask the data plane for one row
at a time, without the cache of embeddings, with one thread a run, with what is measured, and with all cores. Settings
take turns; every round is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.devices import feeds_of
from benchmarks.serving.sentences import NAME, write_sentences

CLIENTS = (1, 16)


async def served(
    source: Any, proofs: Any, trust: Any, wanted: int, cores: int, seconds: float
) -> dict[str, Any]:
    """Load with a setting and answer closed loops; returns the choice, requests a second and latencies in ms."""
    from modelworks.serving.dataplane import DataPlane, PlaneLimits
    from modelworks.serving.deployments import Deployments
    from modelworks.serving.devices import Devices
    from modelworks.serving.journal import Journal
    from modelworks.serving.lane import LaneLimits
    from modelworks.serving.loading import Loader, LoadLimits
    from modelworks.serving.pool import WorkerPool
    from modelworks.serving.residency import Residency
    from modelworks.serving.thread_choice import ThreadChoice

    loop = asyncio.get_running_loop()
    pool = WorkerPool(loop, cores)
    devices = Devices("cpu", threads=ThreadChoice(wanted, cores=cores))
    residency = Residency(
        loop, Loader(proofs, LoadLimits(cache_bytes=0), devices), pool,
        cap_bytes=4 * 2**30, lane_limits=LaneLimits(),
    )  # fmt: skip
    plane = DataPlane(loop, residency, PlaneLimits(deadline_s=60.0))
    Deployments(plane, Journal(None), trust).serve([source])
    feeds = feeds_of(source, 1)
    await plane.infer(plane.resolve(source.name), dict(feeds))
    resident = plane.resolve(source.name).resident
    found: dict[str, Any] = {
        "run_threads": wanted, "chosen": resident.run_threads, "load_ms": round(resident.load_s * 1e3, 1),
        "note": resident.device_note,
    }  # fmt: skip
    for clients in CLIENTS:
        spent: list[float] = []
        stop = time.perf_counter() + seconds

        async def client(spent: list[float] = spent, stop: float = stop) -> None:
            while (start := time.perf_counter()) < stop:
                await plane.infer(plane.resolve(source.name), dict(feeds))
                spent.append(time.perf_counter() - start)

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        took = time.perf_counter() - start
        p50, p99 = np.percentile(spent, [50, 99]) * 1e3
        found[f"clients_{clients}"] = {
            "per_s": round(len(spent) / took, 1), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)
        }  # fmt: skip
    residency.close()
    pool.close()
    return found


def main() -> None:
    """Run the settings in turns and write what was found."""
    from modelworks.compute.device import this_machine, usable_cores
    from modelworks.packaging.package import TrustPolicy
    from modelworks.serving.packages import package_source
    from modelworks.serving.proofs import Proofs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    package = told.folder / "packages" / NAME
    if not package.exists():
        write_sentences(told.folder)
    trust = TrustPolicy.of_folder(told.folder / "home" / "keys")
    source = package_source(package, trust)
    proofs = Proofs(told.folder / "home" / "proofs")
    cores = usable_cores()
    found: dict[str, Any] = {"machine": this_machine().to_json(), "runs": []}
    for _ in range(told.rounds):
        for wanted in dict.fromkeys((1, 0, cores)):
            run = asyncio.run(served(source, proofs, trust, wanted, cores, told.seconds))
            found["runs"].append(run)
            print(json.dumps(run), flush=True)
    if told.out is not None:
        told.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
