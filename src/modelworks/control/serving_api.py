"""Serving from Python: start a server beside this program, deploy to it, ask it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from modelworks.control.service import Service
from modelworks.core.errors import ExecutionError, ModelworksError

if TYPE_CHECKING:
    from modelworks.serving.client import Client

STOP_S = 60.0


class Server:
    """A server in a process of its own; ends with the ``with`` block, or by ``stop()``.

    Attributes:
        url: Address of the HTTP door.
        grpc_port: Port of the gRPC door, ``None`` without one.
        endpoints: Names that were served at the start.
    """

    def __init__(self, process: subprocess.Popen[str], report: dict[str, Any], home: Path) -> None:
        self.url = str(report["url"])
        self.grpc_port: int | None = report["grpc_port"]
        self.endpoints: tuple[str, ...] = tuple(report["endpoints"])
        self._process = process
        self._home = home

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def client(self, **options: Any) -> Client:
        """Return a client of this server with this machine's own token; see ``Client``."""
        from modelworks.serving.access import read_local_token
        from modelworks.serving.client import Client
        from modelworks.serving.running import find_running

        found = find_running(self._home / "serving", self._process.pid)
        if found is not None and found.certificate:
            options.setdefault("certificate", Path(found.certificate))
        options.setdefault("token", read_local_token(self._home / "keys"))
        return Client(self.url, **options)

    def stop(self) -> int:
        """Answer what is under way, end the server and return its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status


def serve(*models: str | Path, home: str | Path | None = None, **settings: Any) -> Server:
    """Start a server beside this program and wait until it takes requests.

    Args:
        models: Names of released models, package folders or ``.mwpkg`` files; every released model when empty.
        home: Folder of the installation; ``MODELWORKS_HOME`` by default.
        settings: Anything ``modelworks.yaml`` may set under ``serving``: ``port`` (0 picks a free one), ``workers``,
            ``memory_mb``, ...

    Raises:
        ModelworksError: The server cannot start; the error says why.
    """
    service = Service.open(home=Path(home) if home is not None else None)
    names = [str(name) for name in models]
    # Checked here first: a mistake is told before a process is started.
    service.serving().settings(names, **settings)
    order = {"home": str(service.settings.home), "models": names, "settings": settings}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "modelworks.control.serve_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order, default=str))
    process.stdin.close()
    line = process.stdout.readline()
    report = json.loads(line) if line else {}
    if "url" in report:
        return Server(process, report, service.settings.home)
    status = process.wait()
    process.stdout.close()
    if "error" in report:
        raise ModelworksError.from_json(report["error"])
    raise ExecutionError(f"The server ended with status {status} before it took requests.", code="MW5421")


def deploy(
    model: str | Path,
    *,
    version: str = "",
    endpoint: str = "",
    canary: float | None = None,
    shadow: bool = False,
    sticky: bool = True,
    change_signature: bool = False,
    home: str | Path | None = None,
) -> dict[str, Any]:
    """Prove a package in a limited child and let it answer.

    The running server of the installation takes it at once; without one it is recorded and answers from the next
    start.

    Args:
        model: Name of a released model, package folder or ``.mwpkg`` file.
        version: Released version; the newest when empty.
        endpoint: Name it is served under; its own when empty.
        canary: Share of the traffic in (0, 1) it gets first.
        shadow: Whether it only gets copies of the traffic.
        sticky: Whether requests of one key always meet the same version.
        change_signature: Whether it may take or give other tensors than the version that answers.
        home: Folder of the installation; ``MODELWORKS_HOME`` by default.

    Returns:
        The endpoint: ``name, champion, canary, shadow, versions, deployed, at``.

    Raises:
        TrustError: A byte is not as it was signed, or the package answers otherwise than it did when it was made.
    """
    service = Service.open(home=Path(home) if home is not None else None)
    return service.serving().deploy(
        str(model),
        version=version,
        endpoint=endpoint,
        canary=canary,
        shadow=shadow,
        sticky=sticky,
        change_signature=change_signature,
    )
