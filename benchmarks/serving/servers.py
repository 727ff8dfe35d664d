"""Starting the servers of the benchmark, each in the Python of its own virtual environment, and watching them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PEERS = Path(__file__).resolve().parent / "peers"
HTTP, GRPC = "http", "grpc"
BOUND = "bare socket"
"""No server but the bound of one Python process: see ``peers/socket_server.py``."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A server that takes part.

    Attributes:
        name: As the report calls it.
        environment: Virtual environment below the peers' folder; "" is the one this runs in.
        command: What its Python runs.
        forms: Request forms it answers: ``json``, ``binary``, ``grpc``.
        path: Path of its JSON route; ``{model}`` is filled in.
        package: Distribution whose version is reported.
    """

    name: str
    environment: str
    command: tuple[str, ...]
    forms: tuple[str, ...]
    path: str
    package: str


_OIP = "/v2/models/{model}/infer"
KINDS = (
    Kind(name="modelworks", environment="", command=("modelworks_server.py",), forms=("json", "binary", "grpc"),
         path=_OIP, package="modelworks"),
    Kind(name=BOUND, environment="", command=("socket_server.py",), forms=("binary",), path=_OIP, package="uvloop"),
    Kind(name="fastapi", environment="plain", command=("fastapi_server.py",), forms=("json", "binary"), path=_OIP,
         package="fastapi"),
    Kind(name="grpc.aio", environment="plain", command=("grpc_server.py",), forms=("grpc",), path="",
         package="grpcio"),
    Kind(name="mlserver", environment="mlserver", command=("mlserver_server.py",), forms=("json", "grpc"),
         path=_OIP, package="mlserver"),
    Kind(name="bentoml", environment="bentoml",
         command=("-m", "bentoml", "serve", "bentoml_server:Server", "--port", "{port}", "--host", "127.0.0.1"),
         forms=("json",), path="/infer", package="bentoml"),
    Kind(name="litserve", environment="litserve", command=("litserve_server.py",), forms=("json",), path="/infer",
         package="litserve"),
    Kind(name="triton (python)", environment="triton", command=("triton_server.py",),
         forms=("json", "binary", "grpc"), path=_OIP, package="nvidia-pytriton"),
    Kind(name="ray serve", environment="ray", command=("ray_server.py",), forms=("json",), path="/infer",
         package="ray"),
)  # fmt: skip


def python_of(kind: Kind, environments: Path) -> Path | None:
    """Return the Python that runs a server, ``None`` if its environment is not there."""
    if not kind.environment:
        return Path(sys.executable)
    path = environments / kind.environment / "bin" / "python"
    return path if path.exists() else None


def version_of(python: Path, package: str) -> str:
    """Return the version of a package in an environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "not installed"


@dataclass
class Running:
    """A started server."""

    kind: Kind
    process: subprocess.Popen[bytes]
    log: Path
    port: int
    grpc_port: int
    headers: dict[str, str] = field(default_factory=dict)
    _seen: dict[int, float] = field(default_factory=dict)

    def _processes(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def memory_mb(self) -> float:
        """Return the proportional set size of all its processes: shared pages are counted once."""
        total = 0
        for process in self._processes():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total / 2**20

    def cpu_s(self) -> float:
        """Return CPU-seconds of all its processes so far."""
        for process in self._processes():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            self._seen[process.pid] = times.user + times.system
        return sum(self._seen.values())

    def stop(self) -> None:
        """End it and what it started."""
        processes = self._processes()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for process in processes[1:]:
            try:
                process.kill()
            except psutil.Error:
                continue


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(models: Path, model: str) -> dict[str, str]:
    """Return the environment a server or the bare loop runs in: one thread for everything numeric."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "True", "PYTHONWARNINGS": "ignore"}
    homes = {"BENTOML_HOME": str(models / "bentoml")}
    return {
        **os.environ, **threads, **quiet, **homes, "BENCH_MODELS": str(models), "BENCH_MODEL": model,
        "PYTHONPATH": str(PEERS),
    }  # fmt: skip


def start(kind: Kind, python: Path, models: Path, model: str) -> Running:
    """Start a server in a session of its own; it may still be loading when this returns."""
    port, grpc_port = free_port(), free_port()
    log = Path(tempfile.mkstemp(prefix=f"{kind.name.replace(' ', '-')}-", suffix=".log", dir=models)[1])
    variables = environment(models, model) | {"BENCH_PORT": str(port), "BENCH_GRPC_PORT": str(grpc_port)}
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables['PATH']}"
    command = [part.format(port=port) for part in kind.command]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(python), *command], cwd=PEERS, env=variables, stdout=stream, stderr=stream
        )
    return Running(kind, process, log, port, grpc_port)


def finish_start(server: Running, models: Path) -> None:
    """Give Modelworks' requests their token once it has made one."""
    if server.kind.name == "modelworks":
        path = models / "home" / "keys" / "serve-token"
        for _ in range(600):
            if path.exists():
                break
            time.sleep(0.1)
        server.headers = {"authorization": f"Bearer {path.read_text().strip()}"}


def compiler() -> str:
    """Return the C compiler's first line of version, for the report."""
    found = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()[0] if found.stdout else ""


def build_load(folder: Path) -> Path:
    """Compile the load generator."""
    program = folder / "load"
    source = Path(__file__).with_name("load.c")
    subprocess.run(["cc", "-O2", "-o", str(program), str(source), "-lm"], check=True)
    return program


def drive(
    load: Path, server: Running, carrier: str, records: Path, *, connections: int, seconds: float, rate: float
) -> dict[str, float]:
    """Load a server; returns what the generator saw, the server's CPU-seconds and its memory."""
    before = server.cpu_s()
    port = server.grpc_port if carrier == GRPC else server.port
    command = [str(load), carrier, str(port), str(connections), str(seconds), str(rate), str(records)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if found.returncode:
        raise RuntimeError(found.stderr[:300])
    seen: dict[str, float] = json.loads(found.stdout)
    seen["cpu_s"] = server.cpu_s() - before
    seen["memory_mb"] = server.memory_mb()
    return seen
