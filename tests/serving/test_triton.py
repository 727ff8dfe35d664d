"""The Triton exports in a real Triton server: the Python backend answers as the engine does, over HTTP and gRPC; the
configuration of the ONNX Runtime backend is read (that backend itself cannot be had through pip)."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from serving_kit import free_port, package_of, running
from test_friendly import classifier
from test_image_door import brightness
from test_sample_models import length_of_text
from tritonclient.utils import InferenceServerException

from modelworks.packaging import TrustPolicy, export, open_package

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
ENVIRONMENT = Path(__file__).parents[2] / ".triton"
PACKAGES = ENVIRONMENT / "lib" / f"python{PYTHON}" / "site-packages"
TRITON = PACKAGES / "pytriton" / "tritonserver"
STUB = TRITON / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (STUB.exists() and (ENVIRONMENT / "ready").exists()),
        reason="no Triton server: scripts/triton gets it",
    ),
]

ROWS: dict[str, list[dict[str, Any]]] = {
    "churn": [
        {"age": 31.0, "city": "Bern", "joined": "2024-03-01"},
        {"age": None, "city": "Zürich 🙂", "joined": None},
        {"age": 64.5, "city": None, "joined": "2019-07-15T12:30:00"},
    ],
    "brightness": [
        {"photo": np.arange(60, dtype=np.uint8).reshape(4, 5, 3) + shade} for shade in (0, 90, 180)
    ],
    "length": [{"review": text} for text in ("good", "größer 🙂", "")],
}


@contextmanager
def triton(repository: Path, home: Path) -> Iterator[tuple[int, int, Path]]:
    """Run a server on a model repository; yields its HTTP and gRPC ports and its log."""
    backend = home / "backends" / "python"
    backend.mkdir(parents=True)
    for file in (*(TRITON / "backends" / "python").glob("*.*"), STUB):
        (backend / file.name).symlink_to(file)
    ports = free_port(), free_port()
    libraries = (PACKAGES / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
    environment = {
        # The interpreter in the backend takes the packages of the first "python3" it finds.
        "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "OMP_NUM_THREADS": "1",
    }
    log = home / "triton.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [
                str(TRITON / "bin" / "tritonserver"), f"--model-repository={repository}",
                f"--backend-directory={backend.parent}", "--exit-on-error=false", "--allow-metrics=false",
                "--exit-timeout-secs=3",
                "--http-address=127.0.0.1", f"--http-port={ports[0]}",
                "--grpc-address=127.0.0.1", f"--grpc-port={ports[1]}",
            ],
            env=environment, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        probe = http_client.InferenceServerClient(f"127.0.0.1:{ports[0]}")
        for _ in range(600):
            assert server.poll() is None, log.read_text()[-3000:]
            try:
                if probe.is_server_live():
                    break
            except (OSError, InferenceServerException):
                pass
            time.sleep(0.1)
        else:
            raise AssertionError(log.read_text()[-3000:])
        probe.close()
        yield *ports, log
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("packages")
    models = (classifier(), brightness(), length_of_text())
    return {model.name: package_of(home, model, ROWS[model.name]) for model in models}


def repository(packages: dict[str, Path], kind: str, folder: Path) -> Path:
    """Export every package into one model repository."""
    made = folder / "repository"
    made.mkdir()
    for name, path in packages.items():
        exported = export(
            open_package(path, TrustPolicy.of_folder(path.parent / "keys")), kind, folder / name
        )
        (exported / name).rename(made / name)
    return made


def ask(
    module: Any, client: Any, name: str, feeds: dict[str, Any], headers: dict[str, str]
) -> dict[str, Any]:
    """Send one request with a public client; returns output name -> array."""
    datatypes = {"f": "FP32", "O": "BYTES", "u": "UINT8", "i": "INT64"}
    inputs = []
    for key, array in feeds.items():
        inputs.append(module.InferInput(key, list(array.shape), datatypes[array.dtype.kind]))
        inputs[-1].set_data_from_numpy(array)
    answer = client.infer(name, inputs, headers=dict(headers))
    response = answer.get_response()
    outputs = response["outputs"] if isinstance(response, dict) else response.outputs
    names = [item["name"] if isinstance(item, dict) else item.name for item in outputs]
    return {name: answer.as_numpy(name) for name in names}


def test_the_python_backend_answers_as_the_engine_does(packages: dict[str, Path], tmp_path: Path) -> None:
    from modelworks.compute.feeds import pack_rows

    home = tmp_path / "home"
    home.mkdir()
    (home / "keys").symlink_to(next(iter(packages.values())).parent / "keys")
    made = repository(packages, "triton-python", tmp_path)
    compared = 0
    with (
        running(home, packages=tuple(packages.values()), grpc_port=0) as ours,
        triton(made, tmp_path) as (http_port, grpc_port, log),
    ):
        headers = {"authorization": f"Bearer {ours.token}"}
        for module, own, other in (
            (http_client, ours.address.port, http_port),
            (grpc_client, ours.address.grpc_port, grpc_port),
        ):
            clients = [module.InferenceServerClient(f"127.0.0.1:{port}") for port in (own, other)]
            for name, path in packages.items():
                signature = open_package(path, TrustPolicy(require_signed=False)).signature
                assert clients[1].is_model_ready(name), log.read_text()[-3000:]
                for rows in (ROWS[name], ROWS[name][:1]):
                    feeds = pack_rows(signature, rows)
                    expected, found = (ask(module, client, name, feeds, headers) for client in clients)
                    assert sorted(found) == sorted(tensor.name for tensor in signature.outputs)
                    for output, array in expected.items():
                        # One text per row: Triton has no tensors without a second axis.
                        assert np.array_equal(found[output].reshape(array.shape), array), (name, output)
                        compared += array.size
            for client in clients:
                client.close()
    assert compared == 2 * 4 * (2 + 1 + 1 + 1)


def test_many_requests_at_once_and_bad_ones_among_them(packages: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    only = {name: packages[name] for name in ("brightness", "churn")}
    made = repository(only, "triton-python", tmp_path)
    with triton(made, tmp_path / "server") as (port, _, _), ThreadPoolExecutor(16) as pool:

        def shade(number: int) -> bool:
            client = http_client.InferenceServerClient(f"127.0.0.1:{port}")
            size = 3 + number % 3
            feeds = {"pixels": np.full((1 + number % 2, size, size, 3), number, np.uint8)}
            found = ask(http_client, client, "brightness", feeds, {})["prediction"]
            client.close()
            return bool((found == number).all())

        def text(value: bytes) -> Any:
            client = http_client.InferenceServerClient(f"127.0.0.1:{port}")
            feeds = {
                "numbers": np.array([[31, 1]], np.float32),
                "strings": np.array([[value]], object),
                "datetimes": np.zeros((1, 1), np.int64),
            }
            try:
                return ask(http_client, client, "churn", feeds, {})["label"].ravel().tolist()
            except InferenceServerException as error:
                return str(error)
            finally:
                client.close()

        texts = pool.map(text, [b"Bern", b"\xff\xfe", b"Basel"] * 8)
        assert all(pool.map(shade, range(48)))
        for index, found in enumerate(texts):
            assert found in ([b"no"], [b"yes"]) if index % 3 != 1 else "a text is not UTF-8" in found, found


def test_a_graph_that_is_not_the_packages_is_not_loaded(packages: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    made = repository({name: packages[name] for name in ("length", "churn")}, "triton-python", tmp_path)
    graph = made / "length" / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with triton(made, tmp_path / "server") as (port, _, log):
        client = http_client.InferenceServerClient(f"127.0.0.1:{port}")
        assert client.is_model_ready("churn")
        assert not client.is_model_ready("length")
        client.close()
        assert "model.onnx is not the file the manifest names" in log.read_text()


def test_the_configuration_of_the_default_backend_is_read(packages: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    made = repository(packages, "triton", tmp_path)
    with triton(made, tmp_path / "server") as (port, _, log):
        client = http_client.InferenceServerClient(f"127.0.0.1:{port}")
        index = {item["name"]: item["reason"] for item in client.get_model_repository_index()}
        client.close()
        assert sorted(index) == sorted(packages), log.read_text()[-3000:]
        for reason in index.values():
            # What is wrong is that the wheel has no such backend, and nothing else.
            assert "unable to find backend library for backend 'onnxruntime'" in reason, reason
