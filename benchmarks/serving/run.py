"""One run of every server on this machine, side by side.

    python -m benchmarks.serving.run --peers FOLDER [--models tree,cnn,text] [--servers NAME,...] [--seconds 4]
                                     [--rounds 3] [--out FILE.jsonl]

``FOLDER`` holds a virtual environment per peer (``install_peers.sh``); those that are not there are skipped by name.
Rounds are interleaved: each measures the bare loop and then every server once. Rows are appended as they are
measured; ``python -m benchmarks.serving.report FILE.jsonl ...`` turns them into the report. A campaign may be run in
pieces, by models, forms or servers, each into a file of its own, with Modelworks in every one.
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

from benchmarks.serving import wire
from benchmarks.serving.cells import CELLS, SATURATED, Cell
from benchmarks.serving.models import MODELS, Model, write_models
from benchmarks.serving.servers import (
    GRPC,
    HTTP,
    KINDS,
    PEERS,
    Kind,
    Running,
    build_load,
    compiler,
    drive,
    environment,
    finish_start,
    python_of,
    start,
    version_of,
)

LOOP = "in-process loop"


def requests_of(server: Running, model: Model, cell: Cell) -> list[bytes]:
    """Return the requests of a cell as this server takes them."""
    feeds = wire.feeds_of(model, cell.rows)
    path = server.kind.path.format(model=model.name)
    if cell.form == "grpc":
        return [
            *wire.grpc_heads(server.headers),
            *(wire.framed(wire.grpc_message(model, part)) for part in feeds),
        ]
    if cell.form == "json":
        headers = {**server.headers, "Content-Type": "application/json"}
        return [wire.http_request(path, headers, wire.json_body(model, part)) for part in feeds]
    headers = {**server.headers, "Content-Type": "application/octet-stream"}
    if server.kind.name == "fastapi":
        shape = "x".join(map(str, next(iter(feeds[0].values())).shape))
        return [wire.http_request(f"/raw/{shape}", headers, wire.raw_body(model, part)) for part in feeds]
    made = []
    for part in feeds:
        body, length = wire.binary_body(model, part)
        made.append(
            wire.http_request(path, {**headers, "Inference-Header-Content-Length": str(length)}, body)
        )
    return made


def ask(server: Running, model: Model, form: str) -> np.ndarray:
    """Ask one question and return the first output of the answer."""
    cell = Cell(model=model.name, form=form)
    if form == "grpc":
        message = wire.grpc_message(model, wire.feeds_of(model, 1)[3])
        return wire.first_output(form, {}, wire.ask_grpc(server.grpc_port, message, server.headers))
    headers, body = wire.ask_http(server.port, requests_of(server, model, cell)[3])
    return wire.first_output(form, headers, body)


def wait_and_check(server: Running, model: Model, expected: np.ndarray, patience_s: float = 90.0) -> str:
    """Wait until a server answers and compare every form with the bare runtime; returns what is wrong, if anything."""
    end = time.monotonic() + patience_s
    for form in server.kind.forms:
        while True:
            try:
                answer = ask(server, model, form)
                break
            except Exception as error:
                if server.process.poll() is not None or time.monotonic() > end:
                    tail = server.log.read_text(errors="replace")[-600:]
                    return f"{form}: no answer ({error!r:.200}); its log ends: {tail}"
                time.sleep(0.5)
        if answer.shape != expected.shape or not np.allclose(answer, expected, rtol=1e-4, atol=1e-5):
            return f"{form}: another answer than the bare runtime's"
    return ""


def bare_loop(models: Path, model: str, rows: int, seconds: float) -> dict[str, float]:
    """Measure the limit."""
    found = subprocess.run(
        [sys.executable, str(PEERS / "loop.py"), str(seconds), str(rows)], env=environment(models, model),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(found.stdout))


class Campaign:
    """Measures one model after the other and appends what it sees.

    Args:
        models: Folder of the models.
        out: File the rows are appended to.
        seconds: Seconds of one measurement.
        rounds: Measurements of each cell and server.
    """

    def __init__(self, models: Path, out: Path, seconds: float, rounds: int) -> None:
        self.models = models
        self.out = out
        self.seconds = seconds
        self.rounds = rounds
        self.load = build_load(models)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row."""
        with self.out.open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def measure(self, model: Model, kinds: list[tuple[Kind, Path]], cells: list[Cell]) -> None:
        """Start servers, compare their answers, load them in rounds, and stop them."""
        np.savez(self.models / f"{model.name}.npz", **model.rows)
        servers: list[Running] = []
        try:
            for kind, python in kinds:
                server = start(kind, python, self.models, model.name)
                finish_start(server, self.models)
                wrong = wait_and_check(server, model, self._expected(model))
                print(f"{model.name} {kind.name}: {wrong or 'answers as the bare runtime does'}", flush=True)
                self.write({"check": kind.name, "model": model.name, "wrong": wrong})
                if wrong:
                    server.stop()
                else:
                    servers.append(server)
            for number in range(self.rounds):
                self._round(number, model, servers, cells)
        finally:
            for server in servers:
                server.stop()

    def _expected(self, model: Model) -> np.ndarray:
        import onnxruntime

        session = onnxruntime.InferenceSession(model.onnx)
        return np.asarray(session.run(None, wire.feeds_of(model, 1)[3])[0]).ravel()

    def _round(self, number: int, model: Model, servers: list[Running], cells: list[Cell]) -> None:
        loops: dict[int, dict[str, float]] = {}
        for cell in cells:
            if cell.rows not in loops or not cell.rate:
                loops[cell.rows] = bare_loop(self.models, model.name, cell.rows, min(self.seconds, 2.0))
            loop = loops[cell.rows]
            self.write({"cell": cell.title, "server": LOOP, "round": number, "rows": cell.rows, **loop})
            for server in servers:
                if cell.form not in server.kind.forms:
                    continue
                if cell.rate > SATURATED.get(server.kind.name, float("inf")):
                    continue
                seen = self._cell(server, model, cell)
                rate = seen["answers"] / seen["seconds"] if seen["seconds"] > 0 else 0.0
                self.write(
                    {
                        "cell": cell.title, "server": server.kind.name, "round": number, "rows": cell.rows, **seen,
                        "loop_per_s": loop["answers"] / loop["seconds"],
                        "loop_cpu_us": loop["cpu_s"] / loop["answers"] * 1e6,
                    }
                )  # fmt: skip
                print(
                    f"{number} {cell.title}: {server.kind.name} {rate:.0f}/s p99 {seen['p99_us'] / 1e3:.2f} ms",
                    flush=True,
                )

    def _cell(self, server: Running, model: Model, cell: Cell) -> dict[str, float]:
        records = self.models / "requests.bin"
        wire.write_records(records, requests_of(server, model, cell))
        carrier = GRPC if cell.form == "grpc" else HTTP
        options = {"connections": cell.connections, "rate": cell.rate}
        drive(self.load, server, carrier, records, seconds=0.5, **options)
        return drive(self.load, server, carrier, records, seconds=self.seconds, **options)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--servers", default=",".join(kind.name for kind in KINDS))
    parser.add_argument("--forms", default="json,binary,grpc")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("serving-benchmark.jsonl"))
    asked = parser.parse_args()
    wanted = asked.servers.split(",")
    present: list[tuple[Kind, Path]] = []
    versions = {}
    for kind in KINDS:
        if kind.name not in wanted:
            continue
        python = python_of(kind, asked.peers)
        if python is None:
            print(f"skipped: {kind.name} (no environment {asked.peers / kind.environment})", flush=True)
            continue
        present.append((kind, python))
        versions[kind.name] = version_of(python, kind.package)
        versions[f"onnxruntime of {kind.name}"] = version_of(python, "onnxruntime")
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        models = Path(folder)
        (models / "home").mkdir()
        made = write_models(models)
        campaign = Campaign(models, asked.out, asked.seconds, asked.rounds)
        names = asked.models.split(",")
        campaign.write(
            {
                "versions": versions, "compiler": compiler(), "seconds": asked.seconds, "rounds": asked.rounds,
                "models": {name: made[name].what for name in names},
            }
        )  # fmt: skip
        for name in names:
            cells = [cell for cell in CELLS if cell.model == name and cell.form in asked.forms.split(",")]
            # Ray's own processes are never idle: it is measured alone, beside the bare loop of its own rounds.
            quiet = [item for item in present if item[0].name != "ray serve"]
            campaign.measure(made[name], quiet, cells)
            loud = [item for item in present if item[0].name == "ray serve"]
            if loud:
                campaign.measure(made[name], loud, [cell for cell in cells if cell.form == "json"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
