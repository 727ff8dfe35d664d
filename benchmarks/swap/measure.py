"""Hot swap, canary, shadow and rollback under constant load: every answer is checked against the version that gave it.

    python -m benchmarks.swap.measure --minutes 3 --connections 8 --rate 300

Two models of one bundled table are made, the first is served by ``mw serve`` in processes of its own, and clients ask
at a constant rate over kept connections while the endpoint is changed again and again. An answer is wrong when its
values are not those of the version it names, or when a request that was sent after a change was acknowledged is
answered as before it. A request is failed when it is refused, cut off or not answered.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil

import modelworks as mw

HERE = Path(__file__).parent
TABLE = Path(mw.__file__).parent / "examples_data" / "auto_mpg.csv"
COLUMNS = (
    "cylinders",
    "displacement",
    "horsepower",
    "weight",
    "acceleration",
    "model_year",
    "origin",
    "name",
)


@dataclass
class State:
    """What may answer a request that is sent now, changed by the one who changes the endpoint."""

    allowed: frozenset[str] = frozenset({"1"})
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Tally:
    """What the clients saw."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    by_version: dict[str, int] = field(default_factory=dict)
    late: int = 0
    latency_ms: list[float] = field(default_factory=list)


def rows_of_table(count: int) -> list[dict[str, Any]]:
    """Return rows of the table as a client sends them."""
    import csv

    numbers = set(COLUMNS[:6])
    with TABLE.open(encoding="utf-8") as stream:
        found = [
            {
                name: float(row[name]) if name in numbers and row[name] else row[name] or None
                for name in COLUMNS
            }
            for row in csv.DictReader(stream)
        ]
    return random.Random(1).sample(found, count)


def ask(
    server: mw.Server, token: str, rows: list[dict[str, Any]], expected: dict[str, list[float]], state: State,
    stop: threading.Event, tally: Tally, gap_s: float, seed: int,
) -> None:  # fmt: skip
    """Send one row at a time at a constant rate until told to stop."""
    rng = random.Random(seed)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    due = time.perf_counter()
    while not stop.is_set():
        due += gap_s
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        else:
            tally.late += 1
        index = rng.randrange(len(rows))
        before = state.allowed
        body = json.dumps({"rows": [rows[index]], "key": str(rng.randrange(10_000))})
        begun = time.perf_counter()
        try:
            connection.request("POST", "/v1/models/cars/predict", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            tally.failed.append(f"{type(error).__name__}: {error}")
            connection.close()
            continue
        if response.status != 200:
            tally.failed.append(str(answer)[:200])
            continue
        tally.answered += 1
        tally.latency_ms.append((time.perf_counter() - begun) * 1e3)
        version = answer["version"]
        tally.by_version[version] = tally.by_version.get(version, 0) + 1
        value = answer["predictions"][0]["prediction"]
        if abs(value - expected[version][index]) > 1e-4:
            tally.wrong.append(f"version {version} answered {value}, not {expected[version][index]}")
        # Between two readings of the state a change may have been acknowledged: both are allowed then.
        if version not in before | state.allowed:
            tally.wrong.append(f"version {version} answered after it had ended")


def change(
    client: mw.Client, state: State, verb: str, during: set[str], after: set[str], **body: Any
) -> float:
    """Do one act; while it is under way both sides may answer. Returns its milliseconds."""
    state.allowed = frozenset(during)
    begun = time.perf_counter()
    client.endpoint("cars", verb, **body)
    spent = (time.perf_counter() - begun) * 1e3
    state.allowed = frozenset(after)
    return spent


def cycle(client: mw.Client, state: State, digest: str, rest_s: float, spent: dict[str, list[float]]) -> None:
    """Deploy as a shadow, as a canary, promote, roll back; rest between the acts."""
    both = {"1", "2"}
    for verb, during, after, body in (
        ("deploy", {"1"}, {"1"}, {"digest": digest, "shadow": True}),
        ("canary", both, both, {"version": "2", "share": 0.2}),
        ("promote", both, {"2"}, {"version": "2"}),
        ("rollback", both, {"1"}, {}),
        ("canary", both, both, {"version": "2", "share": 0.5}),
        ("rollback", both, {"1"}, {}),
    ):
        spent.setdefault(verb, []).append(change(client, state, verb, during, after, **body))
        time.sleep(rest_s)


def measure(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Run the whole measurement."""
    for name, seed in (("cars", 0), ("cars-b", 7)):
        result = mw.produce(str(TABLE), "mpg", name=name, home=home, seed=seed, explain=False)
        if not result.line.released:
            raise SystemExit(f"{name} was not released: {result.verdict.cause}")
    rows = rows_of_table(50)
    expected = {
        number: [item["prediction"] for item in mw.load(name, home=home).predict(rows)]
        for number, name in (("1", "cars"), ("2", "cars-b"))
    }
    differ = float(np.mean([abs(a - b) > 1e-4 for a, b in zip(expected["1"], expected["2"], strict=True)]))
    state, stop = State(), threading.Event()
    tallies = [Tally() for _ in range(options.connections)]
    spent: dict[str, list[float]] = {}
    with (
        mw.serve("cars", home=home, port=0, grpc=False, keep_ready=True, workers=options.workers) as server,
        server.client() as client,
    ):
        token = (home / "keys" / "serve-token").read_text().strip()
        staged = mw.deploy("cars-b", endpoint="cars", shadow=True, home=home)
        digest = next(item["digest"] for item in staged["versions"] if item["number"] == "2")
        gap_s = options.connections / options.rate
        threads = [
            threading.Thread(
                target=ask, args=(server, token, rows, expected, state, stop, tally, gap_s, number)
            )
            for number, tally in enumerate(tallies)
        ]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + options.minutes * 60
        cycles = 0
        try:
            while time.monotonic() < ends:
                cycle(client, state, digest, options.rest, spent)
                cycles += 1
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        status = client.status()
    shadow = next(item for item in status["endpoints"][0]["versions"] if item["number"] == "2")["shadow"]
    latency = np.concatenate([np.asarray(tally.latency_ms) for tally in tallies])
    return {
        "cycles": cycles,
        "acts": {verb: len(times) for verb, times in spent.items()},
        "act_ms": {
            verb: {"median": round(statistics.median(times), 2), "worst": round(max(times), 2)}
            for verb, times in spent.items()
        },
        "answered": sum(tally.answered for tally in tallies),
        "failed": [item for tally in tallies for item in tally.failed],
        "wrong": [item for tally in tallies for item in tally.wrong],
        "by_version": {
            number: sum(tally.by_version.get(number, 0) for tally in tallies) for number in ("1", "2")
        },
        "late": sum(tally.late for tally in tallies),
        "rows_that_differ": differ,
        "shadow": shadow,
        "latency_ms": {
            name: round(float(np.percentile(latency, level)), 2)
            for name, level in (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("worst", 100))
        },
    }


def report(options: argparse.Namespace, found: dict[str, Any]) -> str:
    """Return the dated page."""
    acts = "\n".join(
        f"| {verb} | {found['acts'][verb]} | {item['median']} | {item['worst']} |"
        for verb, item in found["act_ms"].items()
    )
    latency = found["latency_ms"]
    failures = "\n".join(f"- {item}" for item in (found["failed"] + found["wrong"])[:20]) or "- none"
    shadow = found["shadow"]
    command = f"--minutes {options.minutes:g} --connections {options.connections} --rate {options.rate:g}"
    command += f" --workers {options.workers}" if options.workers > 1 else ""
    table = {
        "minutes of load": f"{options.minutes:g}",
        "requests answered": f"{found['answered']:,}",
        "by version 1, by version 2": f"{found['by_version']['1']:,}, {found['by_version']['2']:,}",
        "failed": len(found["failed"]),
        "wrong (values of another version, or answered after its end)": len(found["wrong"]),
        "rows whose answers tell the versions apart": f"{found['rows_that_differ']:.0%}",
        "requests sent later than their turn": f"{found['late']:,}",
        "copies answered by the shadow, dropped, failed": (
            f"{shadow['runs']:,}, {shadow['dropped']:,}, {shadow['errors']:,}"
        ),
        "latency p50, p99, p99.9, worst (ms)": ", ".join(str(value) for value in latency.values()),
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in table.items())
    return f"""# Changes under constant load

Command: `python -m benchmarks.swap.measure {command}`

{platform.platform()}, {os.cpu_count()} cores (load of the machine at the end: {psutil.getloadavg()[0]:.1f}),
Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}, Modelworks {mw.__version__}; server
processes: {options.workers}; clients on the same machine.

| | |
|---|---|
{lines}

| act | times | median ms until acknowledged | worst ms |
|---|---:|---:|---:|
{acts}

Once an act is acknowledged, every request sent later is answered accordingly; a rollback is therefore in effect within
the times above (asked: 5 s). Failed and wrong, the first twenty:

{failures}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument(
        "--rate", type=float, default=300.0, help="Requests a second, all connections together."
    )
    parser.add_argument("--workers", type=int, default=1, help="Processes of the server.")
    parser.add_argument("--rest", type=float, default=1.5, help="Seconds between two acts.")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{time.strftime('%Y-%m-%d')}.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelworks-") as folder:
        found = measure(options, Path(folder))
    options.out.write_text(report(options, found), encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
