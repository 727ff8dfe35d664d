"""Real processes: start, drain on SIGTERM, restart after a crash, several workers, TLS, the client."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from serving_kit import deep, free_port, heavy, make_package, running, self_signed

from modelworks.core.errors import UsageError
from modelworks.serving.access import read_local_token
from modelworks.serving.client import Client
from modelworks.serving.errors import BadRequest, NotReady, Unauthenticated, UnknownModel
from modelworks.serving.flight import CrashRecord, FlightRecorder, running_at_death, slot_of
from modelworks.serving.settings import ServeSettings
from modelworks.serving.supervisor import from_json

_START = """
import json, sys
from pathlib import Path
from modelworks.core.errors import ModelworksError
from modelworks.serving.foreground import main
from modelworks.serving.supervisor import from_json
try:
    sys.exit(main(from_json(sys.stdin.buffer.read())))
except ModelworksError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def _settings(home: Path, **options: Any) -> ServeSettings:
    return ServeSettings(
        **{"home": home, "port": free_port(), "grpc_port": None, "memory_mb": 256, **options}
    )


@contextmanager
def _process(settings: ServeSettings) -> Iterator[subprocess.Popen[bytes]]:
    from modelworks.serving.supervisor import to_json

    process = subprocess.Popen(
        [sys.executable, "-c", _START], stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(to_json(settings))
    process.stdin.close()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        assert process.stderr is not None
        process.stderr.close()


def _client(settings: ServeSettings, **options: Any) -> Client:
    deadline = time.monotonic() + 60
    scheme = "https" if settings.tls else "http"
    while True:
        try:
            token = read_local_token(settings.keys)
            client = Client(f"{scheme}://127.0.0.1:{settings.port}", token=token, **options)
            if client.ready():
                return client
            client.close()
        except UsageError:
            pass
        assert time.monotonic() < deadline, "the server did not come up"
        time.sleep(0.1)


def _workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [
        child for child in psutil.Process(process.pid).children()
        if "modelworks.serving.worker" in " ".join(child.cmdline())
    ]  # fmt: skip


@pytest.mark.slow
def test_sigterm_answers_what_is_under_way(tmp_path: Path) -> None:
    settings = _settings(tmp_path, packages=(make_package(tmp_path, "adder", 1.0),))
    outcomes: list[Any] = []
    with _process(settings) as process, _client(settings) as client:
        client.predict("adder", [{"c0": 1}])
        stop = threading.Event()

        def load(worker: int) -> None:
            with Client(
                f"http://127.0.0.1:{settings.port}", token=read_local_token(settings.keys), retries=0
            ) as mine:
                while not stop.is_set():
                    try:
                        outcomes.append(
                            mine.predict("adder", [{"c0": worker}])[0]["prediction"] == worker + 1
                        )
                    except NotReady:
                        outcomes.append("refused")
                        return
                    except OSError:
                        # The kept connection was closed between two requests, or the port is gone.
                        return

        threads = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        process.terminate()
        assert process.wait(30) == 0
        stop.set()
        for thread in threads:
            thread.join(10)
    assert outcomes.count(True) > 20
    assert False not in outcomes
    assert not list((tmp_path / "serving" / "run").glob("*.running"))


@pytest.mark.slow
def test_a_dead_worker_is_started_again_and_its_model_found_out(tmp_path: Path) -> None:
    settings = _settings(
        tmp_path, packages=(make_package(tmp_path, "adder", 1.0), make_package(tmp_path, "other", 2.0))
    )
    with _process(settings) as process, _client(settings, retries=8) as client:
        assert client.predict("adder", [{"c0": 1}])[0]["prediction"] == 2.0
        digest = client.model("adder")["versions"][0]["digest"]
        for _ in range(2):
            (worker,) = _workers(process)
            flight = settings.state / "run" / f"{worker.pid}.running"
            # What a run that dies leaves behind: its slot is still filled.
            with flight.open("r+b") as stream:
                stream.write(slot_of(digest))
            worker.send_signal(signal.SIGSEGV)
            worker.wait(10)
            client.close()
            client.close()
            deadline = time.monotonic() + 30
            while not client.ready():
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with pytest.raises(NotReady, match="died by SIGSEGV twice while running it"):
            client.predict("adder", [{"c0": 1}])
        assert client.predict("other", [{"c0": 1}])[0]["prediction"] == 3.0


@pytest.mark.slow
def test_several_workers_share_the_port_and_the_endpoints(tmp_path: Path) -> None:
    package = make_package(tmp_path, "adder", 1.0)
    settings = _settings(tmp_path, workers=2, packages=(package,), grpc_port=0)
    second = make_package(tmp_path, "adder", 2.0)
    from modelworks.packaging.package import TrustPolicy
    from modelworks.serving.staging import stage

    with _process(settings) as process:
        clients = [_client(settings) for _ in range(8)]
        pids = {client.status()["pid"] for client in clients}
        assert len(_workers(process)) == 2
        assert {client.predict("adder", [{"c0": 1}])[0]["prediction"] for client in clients} == {2.0}
        source = stage(second, settings.state, TrustPolicy.of_folder(settings.keys))
        clients[0].endpoint("adder", "deploy", digest=source.digest)
        # Once the act is acknowledged it holds in every worker.
        assert {client.predict("adder", [{"c0": 1}])[0]["prediction"] for client in clients} == {3.0}
        assert pids
        # Whichever worker is asked speaks for all of them.
        for client in clients:
            client.predict("adder", [{"c0": 1}])
        counted = {
            sum(item["requests"] for item in client.status()["endpoints"][0]["versions"])
            for client in clients
        }
        assert len(counted) == 1
        assert {len(client.status()["workers"]) for client in clients} == {2}
        for client in clients:
            client.close()


@pytest.mark.slow
def test_several_workers_hold_big_weights_together(tmp_path: Path) -> None:
    package = make_package(tmp_path, "deep", model=deep())
    settings = _settings(tmp_path, workers=2, packages=(package,), keep_ready=True, device="cpu")
    row = {f"x{number}": number / 700 for number in range(700)}
    with _process(settings) as process:
        clients = [_client(settings) for _ in range(8)]
        answers = {client.predict("deep", [row])[0]["prediction"] for client in clients}
        assert len(answers) == 1
        (version,) = clients[0].status()["endpoints"][0]["versions"]
        assert version["shared_mb"] > 8
        assert version["memory_mb"] < 2 * version["shared_mb"]
        files = list(settings.state.glob("weights/*/*/weights.bin"))
        assert len(files) == 1
        for worker in _workers(process):
            # The one that was asked less is kept ready a moment later.
            end = time.monotonic() + 20
            while str(files[0]) not in Path(f"/proc/{worker.pid}/maps").read_text():
                assert time.monotonic() < end, "a worker does not hold the weights of the others"
                time.sleep(0.1)
        for client in clients:
            client.close()
        process.terminate()
        process.wait(40)
    assert list(settings.state.glob("weights/*/*")) == []


@pytest.mark.slow
def test_a_taken_port_and_a_bad_package_end_the_start_with_a_cause(tmp_path: Path) -> None:
    package = make_package(tmp_path, "adder", 1.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with _process(_settings(tmp_path, port=taken.getsockname()[1])) as process:
            assert process.wait(30) == 2
            assert process.stderr is not None and b"MW1320" in process.stderr.read()
    (package / "card.md").write_text("changed")
    with _process(_settings(tmp_path, packages=(package,))) as process:
        assert process.wait(30) == 2
        assert (
            process.stderr is not None and b"card.md is not the file that was signed" in process.stderr.read()
        )


def test_tls_on_both_doors(tmp_path: Path) -> None:
    import grpc
    import tritonclient.grpc as triton_grpc

    certificate, key = self_signed(tmp_path)
    with running(
        tmp_path / "home", [heavy(width=50, layers=2)], tls_certificate=certificate, tls_key=key, grpc_port=0
    ) as server:
        with Client(
            f"https://127.0.0.1:{server.address.port}", token=server.token, certificate=certificate
        ) as client:
            assert client.infer("heavy", {"x": np.ones((2, 50), np.float32)})["y"].shape == (2, 50)
        plain = ssl.create_default_context()
        with (
            pytest.raises(ssl.SSLError),
            socket.create_connection(("127.0.0.1", server.address.port)) as sock,
        ):
            plain.wrap_socket(sock, server_hostname="localhost")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        assert server.server.settings.tls
        with triton_grpc.InferenceServerClient(
            f"localhost:{server.address.grpc_port}",
            ssl=True,
            creds=grpc.ssl_channel_credentials(certificate.read_bytes()),
        ) as rpc:
            assert rpc.is_server_live()
    with pytest.raises(UsageError):
        ServeSettings(home=tmp_path, tls_certificate=certificate).check()


def test_the_client_speaks_both_forms_and_raises_our_errors(tmp_path: Path) -> None:
    package = make_package(tmp_path, "adder", 1.0)
    with running(tmp_path, packages=(package,), observe_share=1.0) as server:
        url = f"http://127.0.0.1:{server.address.port}"
        with Client(url, token=server.token) as client:
            assert client.ready()
            assert [model["name"] for model in client.models()] == ["adder"]
            assert client.predict("adder", [{"c0": 1, "c1": 2}], key="k")[0]["prediction"] == 4.0
            array = np.arange(6, dtype=np.float32).reshape(2, 3)
            assert client.infer("adder", {"numbers": array}, version="1")["prediction"].tolist() == [
                4.0,
                13.0,
            ]
            explained = client.predict("adder", [{"c0": 9, "c1": 2, "c2": 0}], explain=True)[0]["explanation"]
            assert {item["column"] for item in explained["contributions"]} == {"c0", "c1", "c2"}
            client.outcome("adder", "k", 4.2)
            assert client.endpoint("adder", "configure", nan="refuse")["settings"] == {"nan": "refuse"}
            with pytest.raises(BadRequest, match="column 'c0': expected a number, got 'abc'"):
                client.predict("adder", [{"c0": "abc"}])
            with pytest.raises(UnknownModel, match="Did you mean 'adder'"):
                client.predict("addr", [{}])
        with Client(url, token="wrong") as stranger, pytest.raises(Unauthenticated):
            stranger.models()
        with pytest.raises(UsageError):
            Client("ftp://x", token="t")


def test_the_flight_recorder_names_what_ran_at_a_death(tmp_path: Path) -> None:
    path = tmp_path / "1.running"
    recorder = FlightRecorder(path, 3)
    recorder.begin(0, slot_of("a" * 64))
    recorder.begin(2, slot_of("b" * 64))
    recorder.end(0)
    assert running_at_death(path) == ["b" * 64]
    assert running_at_death(path) == []
    record = CrashRecord(tmp_path / "crashes.json", most=2)
    assert record.add(["a", "b"]) == []
    assert CrashRecord(tmp_path / "crashes.json", most=2).add(["b"]) == ["b"]
    assert CrashRecord(tmp_path / "crashes.json", most=2, window_s=0).add(["a"]) == []


def test_settings_cross_to_a_worker_unchanged(tmp_path: Path) -> None:
    from modelworks.serving.supervisor import to_json

    settings = _settings(
        tmp_path,
        packages=(tmp_path / "a",),
        host_names=("x",),
        tls_certificate=tmp_path / "c",
        tls_key=tmp_path / "k",
    )
    assert from_json(to_json(settings)) == settings
