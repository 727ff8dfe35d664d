"""What several workers cost in memory, with their weights shared and each with its own.

    python -m benchmarks.serving.workers FOLDER [--workers 1,2,4] [--out results/DATE-workers.json]

Starts ``mw serve --workers N --keep-ready`` on a package of 88 MB (MiniLM and a linear head) or a tree ensemble, asks
every worker, and adds up the proportional set size of the workers (``smaps_rollup``: a page that n processes map counts
1/n for each). Without sharing means the same server with the folder of shared weights taken away. Answers of both must
be the same text. Latency is one connection, one row, no text twice (embeddings are cached).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from benchmarks.serving.models import tree_model, write_package
from benchmarks.serving.sentences import NAME, texts, write_sentences

_START = """
import sys
from modelworks.serving import supervisor
from modelworks.serving.foreground import main
if not {shared}:
    supervisor.weights_folder = lambda state: None
sys.exit(main(supervisor.from_json(sys.stdin.buffer.read())))
"""
_FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem", "Rss")
PORT = 18180


def proportional(pid: int) -> dict[str, float]:
    """Return megabytes of a process by kind."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in _FIELDS:
            found[name] = int(value.split()[0]) * 1024 / 1e6
    return found


def request(connection: http.client.HTTPConnection, path: str, token: str, body: Any = None) -> Any:
    """Send one request and return the decoded answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(
        "GET" if body is None else "POST", path, None if body is None else json.dumps(body).encode(), headers
    )
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {data[:300]!r}")
    return json.loads(data) if data else None


def measure(
    folder: Path, package: Path, rows: list[dict[str, Any]], workers: int, shared: bool
) -> dict[str, Any]:
    """Serve a package and return memory, latency and the answers to the first 16 rows; the others time it."""
    from modelworks.serving.settings import ServeSettings
    from modelworks.serving.supervisor import to_json

    # A home of its own: an installation brings back whatever it served before.
    home = folder / f"home-{package.name}"
    shutil.copytree(folder / "home" / "keys", home / "keys", dirs_exist_ok=True)
    settings = ServeSettings(
        home=home, packages=(package,), port=PORT, grpc_port=None, workers=workers, threads=1,
        keep_ready=True, quiet=True, device="cpu",
    )  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", _START.format(shared=shared)], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(to_json(settings))
    process.stdin.close()
    try:
        token = _wait(home / "keys" / "serve-token", process)
        connections = [http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)]
        path = f"/v1/models/{package.name}/predict"
        answers = [request(connections[0], path, token, {"rows": [row]}) for row in rows[:16]]
        pids: set[int] = set()
        # The kernel spreads connections over the workers: ask until nobody is left out.
        while len(pids) < workers and len(connections) < 400:
            connections.append(http.client.HTTPConnection("127.0.0.1", PORT, timeout=60))
            pids.add(request(connections[-1], "/v1/status", token)["pid"])
            for row in rows[:4]:
                request(connections[-1], path, token, {"rows": [row]})
        assert len(pids) == workers, f"{len(pids)} of {workers} workers were reached"
        spent = []
        for row in rows[16:]:
            start = time.perf_counter()
            request(connections[0], path, token, {"rows": [row]})
            spent.append(time.perf_counter() - start)
        status = [
            version
            for connection in connections[:1]
            for version in request(connection, "/v1/status", token)["endpoints"][0]["versions"]
        ]
        memory = [proportional(pid) for pid in sorted(pids)]
        others = [
            item.pid for item in psutil.Process(process.pid).children(recursive=True) if item.pid not in pids
        ]
        return {
            "workers": workers,
            "shared": shared,
            "pss_mb": round(sum(item["Pss"] for item in memory), 1),
            "pss_anon_mb": round(sum(item["Pss_Anon"] for item in memory), 1),
            "pss_file_mb": round(sum(item["Pss_File"] for item in memory), 1),
            "rss_mb": round(sum(item["Rss"] for item in memory), 1),
            "helpers_pss_mb": round(sum(proportional(pid)["Pss"] for pid in [process.pid, *others]), 1),
            "load_ms": [version["load_ms"] for version in status],
            "shared_mb": [version["shared_mb"] for version in status],
            "p50_ms": round(median(spent) * 1e3, 3),
            "answers": [answer["predictions"] for answer in answers],
        }
    finally:
        process.terminate()
        process.wait(40)


def speed(folder: Path) -> list[dict[str, Any]]:
    """Time the encoder with private and with mapped weights, taking turns; milliseconds by batch and tokens."""
    from modelworks.algorithms.backbones.minilm import MinilmSource
    from modelworks.compute.runtime import GraphSession
    from modelworks.serving.weights import SharedWeights, WeightsFolder

    onnx = MinilmSource().make((), 0).onnx
    random = np.random.default_rng(0)
    held = WeightsFolder(folder)

    def feeds(rows: int, tokens: int) -> dict[str, Any]:
        ids = random.integers(1000, 20000, (rows, tokens))
        return {"token_ids": ids, "attention": np.ones_like(ids)}

    shared = SharedWeights(held.path, held.secret).session(onnx, [feeds(1, 16)])
    assert shared is not None
    assert shared.shared_bytes
    sessions = {"private_ms": GraphSession(onnx, arena=False), "shared_ms": shared}
    found = []
    for rows, tokens in ((1, 8), (1, 32), (8, 32)):
        given = feeds(rows, tokens)
        answers = [session.run(given)["embedding"].tobytes() for session in sessions.values()]
        best: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(20):
            for name, session in sessions.items():
                turns = []
                for _ in range(3):
                    start = time.thread_time()
                    session.run(given)
                    turns.append(time.thread_time() - start)
                best[name].append(min(turns))
        times = {name: round(median(spent) * 1e3, 3) for name, spent in best.items()}
        found.append({"rows": rows, "tokens": tokens, **times, "same_bits": answers[0] == answers[1]})
        print(json.dumps(found[-1]), flush=True)
    held.close()
    return found


def _wait(file: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError("the server ended")
        try:
            token = file.read_text().strip()
            request(http.client.HTTPConnection("127.0.0.1", PORT, timeout=5), "/v2/health/ready", token)
            return token
        except (OSError, RuntimeError, http.client.HTTPException):
            time.sleep(0.1)
    raise RuntimeError("the server did not start")


def main() -> None:
    """Measure every count of workers with and without sharing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--models", default=f"{NAME},tree")
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    tree = tree_model()
    inputs = {
        NAME: [{"text": text} for text in texts(216, 24)],
        "tree": [
            dict(zip(tree.signature.columns, row.tolist(), strict=True))
            for row in np.tile(tree.rows["numbers"], (4, 1))[:216]
        ],
    }
    told.folder.mkdir(parents=True, exist_ok=True)
    packages = told.folder / "packages"
    if not (packages / NAME).exists():
        write_sentences(told.folder)
    if not (packages / "tree").exists():
        write_package(told.folder, tree)
    found: list[dict[str, Any]] = []
    for model in told.models.split(","):
        answers = None
        for workers in map(int, told.workers.split(",")):
            for shared in (False, True):
                row = measure(told.folder, packages / model, inputs[model], workers, shared)
                said = row.pop("answers")
                answers = answers if answers is not None else said
                row = {"model": model, **row, "same_answers": said == answers}
                print(json.dumps(row), flush=True)
                found.append(row)
    timed = speed(told.folder / "speed") if NAME in told.models else []
    if told.out is not None:
        told.out.write_text(
            json.dumps({"cores": os.cpu_count(), "rows": found, "speed": timed}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
