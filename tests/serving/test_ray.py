"""The data plane on a local Ray cluster: same answers, same gate, and a replica killed under load loses nothing."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from serving_kit import make_package

import modelworks
from modelworks.serving.access import read_local_token
from modelworks.serving.client import Client
from modelworks.serving.errors import BadRequest, Forbidden, Unauthenticated
from modelworks.serving.running import find_running

SOURCE = Path(modelworks.__file__).parent
ROW = {"c0": 1, "c1": 2, "c2": 3}


def test_ray_is_imported_in_one_place_and_by_nobody_else() -> None:
    """S22: and never by importing Modelworks."""
    places = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.split(".")[0] == "ray" for name in names):
                places.add(path.relative_to(SOURCE).as_posix())
    assert places == {"serving/ray_application.py"}
    code = (
        "import sys, modelworks.cli.main, modelworks.control.service, modelworks.serving.server;"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@contextmanager
def on_ray(home: Path, package: Path) -> Iterator[str]:
    # In a process of its own: Ray keeps threads and sockets that outlive a cluster.
    code = (
        "import sys, pathlib; from modelworks.serving.settings import ServeSettings;"
        "from modelworks.serving.ray_application import main;"
        "sys.exit(main(ServeSettings(home=pathlib.Path(sys.argv[1]), packages=(pathlib.Path(sys.argv[2]),),"
        " port=0, memory_mb=200), replicas=2))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home), str(package)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 180
        while (found := find_running(home / "serving")) is None:
            assert process.poll() is None, process.communicate()[0][-3000:]
            assert time.monotonic() < end, "Ray did not start"
            time.sleep(0.5)
        yield found.url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    assert process.returncode == 0


def replicas(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = " ".join(process.info["cmdline"] or ())
        environment = process.info["environ"] or {}
        mine = environment.get("RAY_AUTH_TOKEN_PATH", "").startswith(str(home))
        if mine and "ServeReplica" in words and "Plane" in words:
            found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_replica_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    home = tmp_path / "home"
    package = make_package(home, "adder", 1.0)
    stop, failed, answered = threading.Event(), [], [0]
    with on_ray(home, package) as url:
        token = read_local_token(home / "keys")
        _the_gate_holds(url, token)

        def ask() -> None:
            with Client(url, token=token, retries=0) as client:
                while not stop.is_set():
                    try:
                        assert client.predict("adder", [ROW])[0]["prediction"] == 7.0
                        answered[0] += 1
                    except Exception as error:
                        failed.append(repr(error))

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            _until(lambda: answered[0] > 50)
            before = replicas(home)
            assert len(before) == 2
            before[0].kill()
            killed_at = answered[0]
            _until(lambda: len({item.pid for item in replicas(home)} - {before[0].pid}) == 2)
            _until(lambda: answered[0] > killed_at + 200)
        finally:
            stop.set()
            for asker in askers:
                asker.join(60)
        with Client(url, token=token) as client:
            # Replicas speak for each other, the new one too once it is up.
            _until(lambda: len(client.status()["workers"]) == 2)
        _only_loopback_and_a_token(home)
    assert failed == []
    assert not replicas(home)


def _until(condition: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def _the_gate_holds(url: str, token: str) -> None:
    with Client(url, token="wrong") as stranger, pytest.raises(Unauthenticated):
        stranger.predict("adder", [ROW])
    with Client(url, token=token) as client:
        assert client.ready()
        assert client.models()[0]["name"] == "adder"
        with pytest.raises(BadRequest, match="column 'c0': expected a number, got 'abc'"):
            client.predict("adder", [{"c0": "abc"}])
        client._connection.close()
        client._send = _with_host(client)  # type: ignore[method-assign]
        with pytest.raises(Forbidden):
            client.models()


def _with_host(client: Client) -> Any:
    send = client._send

    def foreign(method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        return send(method, path, body, {**headers, "Host": "evil.test"})

    return foreign


def _only_loopback_and_a_token(home: Path) -> None:
    token = home / "keys" / "ray-token"
    assert token.stat().st_mode & 0o077 == 0
    listening: set[tuple[str, str]] = set()
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("RAY_AUTH_TOKEN_PATH") != str(token):
            continue
        assert process.info["environ"]["RAY_AUTH_MODE"] == "token"
        assert process.info["environ"]["RAY_USAGE_STATS_ENABLED"] == "0"
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add((connection.laddr.ip, process.name()))
    assert listening
    assert {item for item in listening if item[0] not in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}} == set()
