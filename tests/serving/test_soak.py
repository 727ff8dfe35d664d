"""A soak: deploy, predict, evict, roll back, cancel and send nonsense for a while; nothing may grow.

Runs for ``MODELWORKS_SOAK_S`` seconds (25 by default; CI runs 120, a person 7200).
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from serving_kit import adder, heavy, make_package, running

from modelworks.packaging.package import TrustPolicy
from modelworks.serving.memory import trim
from modelworks.serving.staging import stage

SECONDS = float(os.environ.get("MODELWORKS_SOAK_S", "25"))


def _ask(server: Any, stop: threading.Event, wrong: list[Any], counts: dict[str, int], seed: int) -> None:
    rng = random.Random(seed)
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(server.address.host, server.address.port, timeout=20)
    while not stop.is_set():
        kind = rng.random()
        try:
            if kind < 0.05:
                connection.close()
            if kind < 0.7:
                number = rng.randrange(1000)
                body = json.dumps({"rows": [{"c0": number, "c1": 0, "c2": 0}], "key": str(number)})
                connection.request("POST", "/v1/models/adder/predict", body, headers)
                answer = json.loads(connection.getresponse().read())
                if answer["predictions"][0]["prediction"] != number + float(answer["version"]):
                    wrong.append(answer)
            elif kind < 0.9:
                data = [0.5] * 128
                body = json.dumps(
                    {"inputs": [{"name": "x", "shape": [1, 128], "datatype": "FP32", "data": data}]}
                )
                connection.request("POST", f"/v2/models/dense{rng.randrange(12)}/infer", body, headers)
                refused = connection.getresponse().read()
                if refused.startswith(b'{"error'):
                    wrong.append(refused.decode())
            else:
                with socket.create_connection((server.address.host, server.address.port), timeout=5) as sock:
                    sock.sendall(rng.randbytes(rng.randrange(200)) + b"\r\n\r\n")
        except (http.client.HTTPException, ConnectionError):
            connection.close()
        counts["asked"] += 1
    connection.close()


def _state() -> tuple[float, int, int]:
    trim()
    process = psutil.Process()
    return process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()


@pytest.mark.slow
@pytest.mark.timeout(max(300, SECONDS * 2))
def test_nothing_grows(tmp_path: Path) -> None:
    home = tmp_path / "home"
    packages = [make_package(home, "adder", float(number)) for number in range(1, 6)]
    dense = [heavy(f"dense{number}", width=128, layers=4, seed=number) for number in range(12)]
    stop, wrong, counts = threading.Event(), [], {"asked": 0}
    with running(
        home, [*dense, adder("still")], packages=packages[:1], memory_mb=4, audit_share=0.05
    ) as server:
        threads = [
            threading.Thread(target=_ask, args=(server, stop, wrong, counts, seed)) for seed in range(3)
        ]
        for thread in threads:
            thread.start()
        samples: list[tuple[float, int, int]] = []
        started = time.monotonic()
        number = 1
        try:
            while time.monotonic() - started < SECONDS:
                number = number % 5 + 1
                source = stage(
                    packages[number - 1], server.server.settings.state, TrustPolicy.of_folder(home / "keys")
                )
                server.request("POST", "/v1/endpoints/adder/deploy", {"digest": source.digest, "canary": 0.3})
                server.request("POST", "/v1/endpoints/adder/promote", {"version": str(number)})
                server.request("GET", "/metrics")
                if random.random() < 0.3:
                    server.request("POST", "/v1/endpoints/adder/rollback", {})
                time.sleep(0.2)
                samples.append(_state())
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        status = server.request("GET", "/v1/status")[1]
    assert wrong[:3] == []
    assert counts["asked"] > 20 * SECONDS
    assert status["models"]["evictions"] > SECONDS
    half = len(samples) // 2
    early, late = samples[half // 2 : half], samples[-half // 2 :]
    grown = min(item[0] for item in late) - min(item[0] for item in early)
    assert grown < 12 + SECONDS / 600, f"resident memory grew by {grown:.1f} MB"
    assert max(item[1] for item in late) <= max(item[1] for item in early) + 10, "open files grew"
    assert max(item[2] for item in late) <= max(item[2] for item in early) + 2, "threads grew"
