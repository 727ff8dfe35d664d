"""Dense serving, measured: packages under a memory cap, heads on one backbone.

    python -m benchmarks.dense.run --peers FOLDER [--packages 300] [--cap-mb 192] [--rates 100,300] [--seconds 20]
                                   [--heads 1000] [--parts packages,heads] [--out FILE.jsonl]

``FOLDER`` is the one of ``benchmarks/serving/install_peers.sh`` (only ``plain`` is used). Rows are appended as they
are measured.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.dense import heads
from benchmarks.dense.fleet import Fleet, make_fleet, requests, trace
from benchmarks.serving import wire
from benchmarks.serving.servers import (
    HTTP,
    KINDS,
    Kind,
    Running,
    build_load,
    drive,
    finish_start,
    python_of,
    start,
    version_of,
)

PEERS = Path(__file__).resolve().parent / "peers"
ALONE = 8
"""Processes of one model each that are really started; three hundred do not fit the machine."""
_PATH = "/v2/models/{model}/infer"
DENSE = (
    Kind(name="modelworks", environment="", command=(str(PEERS / "dense_server.py"),), forms=("json",), path=_PATH,
         package="modelworks"),
    Kind(name="plain LRU", environment="plain", command=(str(PEERS / "lru_server.py"),), forms=("json",),
         path=_PATH, package="fastapi"),
)  # fmt: skip


class Campaign:
    """Appends what is measured to a file.

    Args:
        out: The file.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.rows: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        """Append one row."""
        self.rows.append(row)
        print(json.dumps(row)[:300], flush=True)
        with self.out.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def counts_of(server: Running) -> dict[str, float]:
    """Return loads, evictions, seconds of loading and megabytes in memory so far."""
    path = "/v1/status" if server.kind.name == "modelworks" else "/counts"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path, headers=server.headers)
    found = json.loads(connection.getresponse().read())
    connection.close()
    if server.kind.name != "modelworks":
        return dict(found)
    versions = [version for endpoint in found["endpoints"] for version in endpoint["versions"]]
    models = found["models"]
    return {
        "loads": models["loads"], "evictions": models["evictions"], "loaded": models["loaded"],
        "used_mb": models["used_mb"],
        "load_s": sum((item["load_ms"] or 0.0) * item["loads"] for item in versions) / 1e3,
    }  # fmt: skip


def first_answers(server: Running, fleet: Fleet) -> list[float]:
    """Ask every model once, compare its answer with the bare runtime's, and return the seconds of each."""
    spent = []
    feeds = wire.feeds_of(fleet.models[0], 1)[0]
    for index, model in enumerate(fleet.models):
        request = requests(fleet.models, [index], server.headers)[0]
        begin = time.perf_counter()
        headers, body = wire.ask_http(server.port, request)
        spent.append(time.perf_counter() - begin)
        answer = wire.first_output("json", headers, body)
        expected = onnxruntime.InferenceSession(model.onnx).run(None, feeds)[0]
        if not np.allclose(answer, np.ravel(expected), atol=1e-4):
            raise RuntimeError(f"{server.kind.name} answers {model.name} otherwise than the bare runtime")
    return spent


def wait(server: Running) -> None:
    """Wait until a server listens."""
    for _ in range(1200):
        try:
            http.client.HTTPConnection("127.0.0.1", server.port, timeout=1).connect()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{server.kind.name} does not listen: {server.log.read_text()[-500:]}")


def packages(campaign: Campaign, folder: Path, options: argparse.Namespace) -> None:
    """Measure a fleet under a cap: Modelworks, a plain LRU server, and processes of one model each."""
    begin = time.perf_counter()
    fleet = make_fleet(folder, options.packages)
    campaign.write(
        {
            "fleet": options.packages, "bytes": fleet.bytes, "cap_mb": options.cap_mb,
            "made_s": time.perf_counter() - begin,
        }
    )  # fmt: skip
    os.environ["BENCH_CAP_BYTES"] = str(options.cap_mb * 2**20)
    load = build_load(folder)
    servers: list[Running] = []
    try:
        for kind in DENSE:
            python = python_of(kind, options.peers)
            assert python is not None
            server = start(kind, python, folder, "")
            servers.append(server)
            finish_start(server, folder)
            wait(server)
            spent = first_answers(server, fleet)
            row = {"first": kind.name, "p50_s": float(np.median(spent)), "max_s": max(spent)}
            campaign.write({**row, **counts_of(server)})
        for rate in (*options.rates, 0.0):
            for server in servers:
                _pass(campaign, load, folder, server, fleet, rate, options.seconds)
    finally:
        for server in servers:
            server.stop()
    _alone(campaign, folder, fleet, options.peers)


def _pass(
    campaign: Campaign, load: Path, folder: Path, server: Running, fleet: Fleet, rate: float, seconds: float
) -> None:
    length = int(seconds * rate * 1.3) if rate else 40_000
    order = trace(fleet.models, length)
    records = folder / "requests.bin"
    wire.write_records(records, requests(fleet.models, order, server.headers))
    before = counts_of(server)
    seen = drive(load, server, HTTP, records, connections=64 if rate else 16, seconds=seconds, rate=rate)
    after = counts_of(server)
    delta = {key: after[key] - before[key] for key in ("loads", "evictions", "load_s")}
    row = {"zipf": server.kind.name, "rate": rate, "loaded": after["loaded"], "used_mb": after["used_mb"]}
    campaign.write({**row, **delta, **seen})


def _alone(campaign: Campaign, folder: Path, fleet: Fleet, peers: Path) -> None:
    """Measure a few processes that serve one model each."""
    kind = next(item for item in KINDS if item.name == "fastapi")
    python = python_of(kind, peers)
    assert python is not None
    started: list[Running] = []
    try:
        begin = time.perf_counter()
        for model in fleet.models[:ALONE]:
            started.append(start(kind, python, folder, model.name))
        for server in started:
            wait(server)
        spent = time.perf_counter() - begin
        for index, server in enumerate(started):
            wire.ask_http(server.port, requests(fleet.models, [index], {})[0])
        memory = [server.memory_mb() for server in started]
        cpu = [server.cpu_s() for server in started]
        campaign.write(
            {
                "alone": ALONE, "packages": len(fleet.models), "memory_mb": float(np.mean(memory)), "start_s": spent,
                "start_cpu_s": float(np.mean(cpu)),
            }
        )  # fmt: skip
    finally:
        for server in started:
            server.stop()


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """Return what was asked and what came out, and where the plain LRU server is ahead, a line each."""
    lines = []
    passes: dict[float, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if "zipf" in row:
            passes.setdefault(row["rate"], {})[row["zipf"]] = row
    for rate, found in passes.items():
        ours, plain = found["modelworks"], found["plain LRU"]
        for name in ("p50_us", "p90_us", "p99_us", "cpu_s", "memory_mb"):
            behind = ours[name] > plain[name]
            where = f"{rate:g} requests a second" if rate else "closed loop"
            lines.append(
                f"{where}, {name}: {ours[name]:,.1f} against {plain[name]:,.1f} of plain LRU"
                f"{', LOST' if behind else ''}"
            )
    counts = {row["heads"]: row for row in rows if "heads" in row}
    if len(counts) == 2:
        one, many = counts[min(counts)], counts[max(counts)]
        for what in ("inside", "http"):
            share = many[what]["per_s"] / one[what]["per_s"]
            lines.append(
                _goal(f"{what}: throughput of {max(counts)} heads to that of one", share, 0.5, share >= 0.5)
            )
        times = many["memory_mb"] / one["memory_mb"]
        lines.append(_goal(f"memory of {max(counts)} heads to that of one", times, 1.3, times < 1.3))
    for row in rows:
        if "engine" in row:
            times = row["times_separate"]
            lines.append(_goal("times faster than separate sessions", times, 60, times >= 60))
    return lines


def _goal(what: str, found: float, asked: float, held: bool) -> str:
    return f"{what}: {found:,.2f} (asked: {asked:g}), {'held' if held else 'MISSED'}"


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--packages", type=int, default=300)
    parser.add_argument("--cap-mb", type=int, default=192)
    parser.add_argument(
        "--rates", type=lambda text: [float(item) for item in text.split(",")], default=[100.0, 300.0]
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--heads", type=int, default=1000)
    parser.add_argument("--parts", default="packages,heads")
    parser.add_argument("--out", type=Path, default=Path("dense-benchmark.jsonl"))
    options = parser.parse_args()
    campaign = Campaign(options.out)
    python = python_of(DENSE[1], options.peers)
    assert python is not None
    versions = {
        "modelworks": version_of(Path(sys.executable), "modelworks"),
        "onnxruntime": onnxruntime.__version__,
        "fastapi": version_of(python, "fastapi"),
        "onnxruntime of fastapi": version_of(python, "onnxruntime"),
    }
    campaign.write({"versions": versions})
    with tempfile.TemporaryDirectory(prefix="bench-dense-") as name:
        folder = Path(name)
        if "packages" in options.parts:
            packages(campaign, folder, options)
        if "heads" in options.parts:
            for count in (1, options.heads):
                found = subprocess.run(
                    [sys.executable, "-m", "benchmarks.dense.heads", str(count)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                for line in found.stdout.splitlines():
                    campaign.write(json.loads(line))
            for row in heads.engine(options.heads):
                campaign.write(row)
    print("\n".join(findings(campaign.rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
