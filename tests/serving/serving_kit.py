"""Graphs and a running server for the tests of the serving room."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelworks.core.signature import Signature, Tensor
from modelworks.serving.foreground import new_loop
from modelworks.serving.model import MemorySource, ModelSource
from modelworks.serving.server import Address, Server
from modelworks.serving.settings import ServeSettings

_ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def graph(nodes: list[Any], inputs: list[Tensor], outputs: list[Tensor], constants: dict[str, Any]) -> bytes:
    """Serialize a small graph."""
    made = helper.make_graph(
        nodes,
        "g",
        [_value(tensor) for tensor in inputs],
        [_value(tensor) for tensor in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()


def _value(tensor: Tensor) -> Any:
    shape = [f"{tensor.name}_{index}" if axis < 0 else axis for index, axis in enumerate(tensor.shape)]
    return helper.make_tensor_value_info(tensor.name, _ELEMENTS[tensor.datatype], shape)


def source(
    name: str, onnx: bytes, inputs: list[Tensor], outputs: list[Tensor], **signature: Any
) -> MemorySource:
    """Wrap a graph as a source."""
    return MemorySource(
        name=name,
        digest=hashlib.sha256(name.encode() + onnx).hexdigest(),
        signature=Signature(inputs=tuple(inputs), outputs=tuple(outputs), **signature),
        onnx=onnx,
    )


def adder(name: str = "adder", amount: float = 1.0, columns: int = 3) -> MemorySource:
    """``prediction`` = sum of the row + amount: the answer tells which version gave it."""
    inputs = [
        Tensor(
            name="numbers",
            datatype="FP32",
            shape=(-1, columns),
            columns=tuple(f"c{i}" for i in range(columns)),
        )
    ]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    nodes = [
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "amount"], ["prediction"]),
    ]
    constants = {"axes": np.array([1], np.int64), "amount": np.array(amount, np.float32)}
    return source(name, graph(nodes, inputs, outputs, constants), inputs, outputs)


def patient_adder(name: str, amount: float) -> MemorySource:
    """``adder`` for packages: a missing value counts as 0."""
    plain = adder(name, amount)
    nodes = [
        helper.make_node("IsNaN", ["numbers"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "numbers"], ["filled"]),
        helper.make_node("ReduceSum", ["filled", "axes"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "amount"], ["prediction"]),
    ]
    constants = {
        "zero": np.array(0.0, np.float32),
        "axes": np.array([1], np.int64),
        "amount": np.array(amount, np.float32),
    }
    inputs, outputs = list(plain.signature.inputs), list(plain.signature.outputs)
    return source(name, graph(nodes, inputs, outputs, constants), inputs, outputs)


def logarithm(name: str = "logarithm") -> MemorySource:
    """``prediction`` = ln(x): not finite for 0 and below."""
    inputs = [Tensor(name="numbers", datatype="FP32", shape=(-1, 1), columns=("x",))]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1, 1))]
    return source(
        name,
        graph([helper.make_node("Log", ["numbers"], ["prediction"])], inputs, outputs, {}),
        inputs,
        outputs,
    )


def echo(datatype: str, shape: tuple[int, ...] = (-1, -1), name: str | None = None) -> MemorySource:
    """``y`` = ``x`` of any type and shape."""
    inputs = [Tensor(name="x", datatype=datatype, shape=shape)]
    outputs = [Tensor(name="y", datatype=datatype, shape=shape)]
    onnx = graph([helper.make_node("Identity", ["x"], ["y"])], inputs, outputs, {})
    return source(name or f"echo_{datatype.lower()}", onnx, inputs, outputs)


def heavy(name: str = "heavy", width: int = 600, layers: int = 12, seed: int = 0) -> MemorySource:
    """A stack of matrix products that takes some milliseconds: never run on the event loop."""
    random = np.random.default_rng(seed)
    inputs = [Tensor(name="x", datatype="FP32", shape=(-1, width))]
    outputs = [Tensor(name="y", datatype="FP32", shape=(-1, width))]
    nodes, constants, last = [], {}, "x"
    for index in range(layers):
        constants[f"w{index}"] = random.standard_normal((width, width), dtype=np.float32) / np.float32(
            width**0.5
        )
        target = "y" if index == layers - 1 else f"h{index}"
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [target]))
        last = target
    return source(name, graph(nodes, inputs, outputs, constants), inputs, outputs)


def row_mixer(name: str = "mixer") -> MemorySource:
    """An answer that depends on the other rows of the batch: must never be batched."""
    inputs = [Tensor(name="x", datatype="FP32", shape=(-1, 2))]
    outputs = [Tensor(name="y", datatype="FP32", shape=(-1, 2))]
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=1),
        helper.make_node("Add", ["x", "total"], ["with"]),
        helper.make_node("Add", ["with", "one"], ["y"]),
    ]
    constants = {"axes": np.array([0], np.int64), "one": np.array(1.0, np.float32)}
    return source(name, graph(nodes, inputs, outputs, constants), inputs, outputs)


DEEP_WIDTH = 700


def deep(name: str = "deep", seed: int = 0, layers: int = 5) -> MemorySource:
    """A few layers: 9.8 MB, its matrices packed for the kernels; ``prediction`` is the sum of the last one."""
    random = np.random.default_rng(seed)
    columns = tuple(f"x{number}" for number in range(DEEP_WIDTH))
    inputs = [Tensor(name="x", datatype="FP32", shape=(-1, DEEP_WIDTH), columns=columns)]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    constants: dict[str, Any] = {"zero": np.array(0.0, np.float32), "axes": np.array([1], np.int64)}
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "x"], ["s"]),
    ]
    state = "s"
    for number in range(layers):
        constants[f"w{number}"] = random.standard_normal((DEEP_WIDTH, DEEP_WIDTH)).astype(np.float32) * 0.05
        nodes += [
            helper.make_node("MatMul", [state, f"w{number}"], [f"m{number}"]),
            helper.make_node("Tanh", [f"m{number}"], [f"s{number}"]),
        ]
        state = f"s{number}"
    nodes.append(helper.make_node("ReduceSum", [state, "axes"], ["prediction"], keepdims=0))
    return source(name, graph(nodes, inputs, outputs, constants), inputs, outputs)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Running:
    """A server in a thread of its own."""

    server: Server
    address: Address
    loop: asyncio.AbstractEventLoop

    @property
    def token(self) -> str:
        return self.server.access.local_token

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def on_loop(self, function: Callable[[], Any]) -> Any:
        """Call a function on the server's loop."""

        async def call() -> Any:
            return function()

        return self.wait(call())

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        token: str | None = "local",
    ) -> tuple[int, Any, dict[str, str]]:
        """Send one request; returns status, decoded JSON (or bytes) and headers."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=20)
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token if token == 'local' else token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            data = response.read()
            found = {key.lower(): value for key, value in response.getheaders()}
            if found.get("content-type") == "application/json" and "content-encoding" not in found and data:
                return response.status, json.loads(data), found
            return response.status, data, found
        finally:
            connection.close()

    def infer(self, model: str, data: Any, **options: Any) -> tuple[int, Any, dict[str, str]]:
        """Send one FP32 tensor to the model's first input."""
        array = np.asarray(data, dtype=np.float32)
        tensor = self.server.plane.routes[model].champion.signature.inputs[0]
        body = {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": "FP32",
                    "shape": list(array.shape),
                    "data": array.ravel().tolist(),
                }
            ]
        }
        return self.request("POST", f"/v2/models/{model}/infer", body, **options)


@contextmanager
def running(home: Path, sources: Sequence[ModelSource] = (), **settings: Any) -> Iterator[Running]:
    """Run a server on free ports until the block ends; it must drain cleanly."""
    options = {"port": 0, "grpc_port": None, "memory_mb": 512, "quiet": True, **settings}
    made: dict[str, Any] = {}
    up = threading.Event()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        made["loop"] = loop
        made["end"] = asyncio.Event()
        try:
            server = Server(ServeSettings(home=home, **options), loop)
            server.deployments.serve(sources)
            made["address"] = await server.start()
            made["server"] = server
        except BaseException as error:
            made["error"] = error
            up.set()
            return
        up.set()
        await made["end"].wait()
        made["answered"] = await server.stop()

    def body() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=body, name="server")
    thread.start()
    try:
        assert up.wait(30), "the server did not start"
        if "error" in made:
            raise made["error"]
        yield Running(server=made["server"], address=made["address"], loop=made["loop"])
    finally:
        if "server" in made:
            made["loop"].call_soon_threadsafe(made["end"].set)
        thread.join(40)
        assert not thread.is_alive(), "the server did not stop"


def make_package(
    folder: Path,
    name: str = "adder",
    amount: float = 1.0,
    created: float = 1_700_000_000.0,
    model: MemorySource | None = None,
) -> Path:
    """Build a real, signed package around ``adder`` (or ``model``); its key is the one in ``<folder>/keys``."""
    model = model or patient_adder(name, amount)
    columns = model.signature.columns
    rows = [{column: float(index + row) for index, column in enumerate(columns)} for row in range(6)]
    return package_of(folder, model, rows, f"{name}-{amount:g}", created)


def package_of(
    folder: Path,
    model: MemorySource,
    rows: list[dict[str, Any]],
    place: str = "",
    created: float = 1_700_000_000.0,
) -> Path:
    """Build a real, signed package around a source; its key is the one in ``<folder>/keys``."""
    from modelworks.core.estimator import FittedModel
    from modelworks.core.schema import Column, ColumnKind, Schema
    from modelworks.core.task import Task, TaskKind
    from modelworks.core.verdict import Measure, Verdict, VerdictKind
    from modelworks.packaging.builder import build
    from modelworks.packaging.keys import SigningKey

    kinds = {
        name: ColumnKind.NUMBER if tensor.datatype == "FP32" and not tensor.payload else ColumnKind.TEXT
        for tensor in model.signature.inputs
        for name in tensor.columns
    }
    measure = Measure(name="rmse", value=0.1, low=0.05, high=0.2, n=50, higher_is_better=False).to_json()
    path = folder / (place or model.name)
    build(
        path,
        model=FittedModel(onnx=model.onnx, signature=model.signature),
        task=Task(name=model.name, data="made-up.csv", target="y", kind=TaskKind.REGRESSION),
        schema=Schema(
            columns=tuple(
                Column(name=column, kind=kind) for column, kind in {**kinds, "y": ColumnKind.NUMBER}.items()
            )
        ),
        evaluation={"kind": "regression", "metric": "rmse", "n": 50, "measures": [measure], "slices": []},
        verdict=Verdict(kind=VerdictKind.RELEASED, cause="Every condition holds."),
        profile={"columns": {}},
        lineage={"dataset": {"digest": "0" * 64, "name": "made-up"}, "recipe": {"name": "by hand"}},
        measured={"latency_ms": {"p50": 0.01, "p99": 0.02}},
        cost={},
        examples=rows,
        key=SigningKey.load_or_create(folder / "keys"),
        created=created,
    )
    return path


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of localhost for a day and its key; returns both files."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate, secret = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, secret
