"""Fuzz: requests made from the OpenAPI document, and mutated bytes on raw sockets. No 500, no crash, limits hold.

MODELWORKS_FUZZ=20 makes twenty times as many requests.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_kit import adder, echo, logarithm, running
from test_friendly import classifier
from test_image_door import brightness, encoded

from modelworks.serving.rpc import frames
from modelworks.serving.rpc.hpack import encode
from modelworks.serving.rpc.messages import messages

SOURCES = [classifier(), adder(), logarithm(), echo("FP32"), echo("BYTES"), echo("INT64"), brightness()]
TIMES = int(os.environ.get("MODELWORKS_FUZZ", "1"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running(
        tmp_path_factory.mktemp("home"), SOURCES, access_log="off", body_mb=2, observe_share=0.2, grpc_port=0
    ) as server:
        yield server


@pytest.fixture(scope="module")
def schema(served: Any) -> Any:
    document = served.request("GET", "/openapi.json", token=None)[1]
    # Removing or unloading the models under test would leave nothing to fuzz.
    for path in [path for path in document["paths"] if path.endswith(("/remove", "/unload"))]:
        del document["paths"][path]
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = {
                    "type": "string",
                    "enum": [source.name for source in SOURCES] + ["1", "x/y", "é"],
                }
    found = schemathesis.openapi.from_dict(document)
    return [operation.ok() for operation in found.get_all_operations()]


@given(data=st.data())
@settings(max_examples=250 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_the_document_allows_is_answered_as_it_says(data: Any, served: Any, schema: Any) -> None:
    operation = data.draw(st.sampled_from(schema))
    case = data.draw(operation.as_strategy())
    url = f"http://127.0.0.1:{served.address.port}"
    response = case.call(base_url=url, headers={"Authorization": f"Bearer {served.token}"})
    assert response.status_code != 500, (case.as_curl_command(), response.text)
    statuses = {int(status) for status in operation.definition.raw["responses"]}
    assert response.status_code in statuses, (case.as_curl_command(), response.text)
    if response.status_code >= 400:
        assert response.json()["error"].startswith("MW")


def _requests(token: str, routes: list[Any]) -> list[bytes]:
    """Return a request for each kind of body, and one without a body for every route."""
    picture = base64.b64encode(encoded("PNG")).decode()
    bodies = [
        {"inputs": [{"name": "numbers", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]},
        {"rows": [{"age": 31, "city": "Bern", "joined": "2024-01-01"}], "explain": True},
        {
            "inputs": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "b"]}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        },
        {"version": "1", "share": 0.5},
        {"rows": [{"photo": picture}, {"photo": [[[1, 2, 3]]]}], "timeout_ms": 900},
        {"models": ["churn"], "rows": [{"age": 31}]},
        [{"key": "a", "value": {"b": [1.5]}, "row": 3, "kind": "correction"}],
        {"deadline_ms": 900, "nan": "missing", "redact": ["age"]},
        {"ready": True},
    ]  # fmt: skip
    paths = (
        "/v2/models/adder/infer",
        "/v1/models/churn/predict",
        "/v2/models/echo_bytes/infer",
        "/v1/endpoints/adder/canary",
        "/v1/models/brightness/predict",
        "/v1/predict",
        "/v1/models/churn/outcomes",
        "/v1/endpoints/churn/configure",
        "/v2/repository/index",
    )
    made = []
    for path, body in zip(paths, bodies, strict=True):
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        made.append(head.encode() + data)
    for route in routes:
        if route.pattern.endswith(("/remove", "/unload")):
            continue
        path = route.pattern.replace("{model}", "adder").replace("{version}", "1")
        head = f"{route.method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        made.append(head.encode())
    chunked = made[0].partition(b"\r\n\r\n")
    head = b"\r\n".join(line for line in chunked[0].split(b"\r\n") if not line.startswith(b"Content-Length"))
    made.append(
        head + b"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(chunked[2]), chunked[2])
    )
    return made


def _assert_answers(served: Any) -> None:
    """The model answers still, once what the fuzzers set on it is taken back."""
    defaults = {"deadline_ms": None, "priority": None}
    assert served.request("POST", "/v1/endpoints/adder/configure", defaults)[0] == 200
    status, answer, _ = served.infer("adder", [[1, 2, 3]])
    assert status == 200, answer


_PIECES = [
    b"\r\n", b"\r\n\r\n", b"\x00", b"\xff" * 8, b"Content-Length: 0\r\n", b"0\r\n\r\n", b"HTTP/1.1",
    b"Transfer-Encoding: chunked\r\n", b"99999999999999999999", b"-1", b"NaN", b"[[[[", b"}}}}", b"\"", b"1e400",
    b"\\ud800", b"\xf0\x9f\x98\x80", b"GET / HTTP/1.1\r\n\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"%00%2e%2e/",
]  # fmt: skip


def _mutate(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[place % len(out)] = rng.randrange(256)
        elif kind == 1:
            out[place:place] = rng.choice(_PIECES)
        elif kind == 2:
            del out[place : place + rng.randint(1, 20)]
        elif kind == 3:
            out[place:place] = out[place : place + rng.randint(1, 40)]
        elif kind == 4 and out:
            out[place % len(out)] ^= 1 << rng.randrange(8)
        else:
            out = out[:place] if rng.random() < 0.2 else out
    return bytes(out)


@pytest.mark.parametrize("part", range(4))
def test_mutated_bytes_never_crash_the_server(
    served: Any, part: int, caplog: pytest.LogCaptureFixture
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    originals = _requests(served.token, served.server.application.routes)
    files = psutil.Process().num_fds()
    for _ in range(250 * TIMES):
        data = b"".join(_mutate(rng.choice(originals), rng) for _ in range(rng.randint(1, 3)))
        with socket.create_connection((served.address.host, served.address.port), timeout=5) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            found = b""
            try:
                while piece := sock.recv(65536):
                    found += piece
            except (ConnectionResetError, TimeoutError):
                pass
        assert b"HTTP/1.1 500" not in found, (seed, data, found)
        assert not caplog.records, (seed, data, caplog.records[0].getMessage(), caplog.records[0].exc_info)
    assert served.request("GET", "/v2/health/ready", token=None)[0] == 200
    _assert_answers(served)
    assert served.on_loop(lambda: served.server.http.bodies_bytes) == 0
    assert served.on_loop(lambda: served.server.plane.in_flight) == 0
    assert psutil.Process().num_fds() <= files + 8


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
_TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["numbers", "x", "y", ""]) | _JSON,
        "datatype": st.sampled_from(["FP32", "BYTES", "INT64", "BOOL", "FP16", "BF16", "TYPE"]) | _JSON,
        "shape": st.lists(st.integers(-2, 10**12), max_size=4) | _JSON,
        "data": _JSON,
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "shared_memory_region"]), _JSON, max_size=2
        )
        | _JSON,
    },
)
_BODY = st.fixed_dictionaries(
    {"inputs": st.lists(_TENSOR, max_size=3)},
    optional={
        "id": _JSON,
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["prediction", "y", "z"])}), max_size=2
        )
        | _JSON,
        "parameters": st.dictionaries(
            st.sampled_from(["timeout", "priority", "key", "sequence_id", "binary_data_output"]),
            _JSON,
            max_size=3,
        ),
    },
)


@given(
    _BODY,
    st.sampled_from(["adder", "echo_fp32", "echo_bytes", "echo_int64", "churn"]),
    st.binary(max_size=20),
    st.booleans(),
)
@settings(max_examples=250 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
def test_bodies_almost_like_the_protocol(
    served: Any, body: Any, model: str, tail: bytes, binary: bool
) -> None:
    data = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if binary:
        headers["Inference-Header-Content-Length"] = str(len(data))
        data += tail
    status, answer, _ = served.request("POST", f"/v2/models/{model}/infer", data, headers=headers)
    assert status in {200, 400, 413, 422, 504}, answer


@given(
    st.binary(max_size=120), st.sampled_from(["ModelInfer", "ModelReady", "ModelMetadata", "RepositoryIndex"])
)
@settings(max_examples=150 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_as_a_message_end_in_a_status(served: Any, message: bytes, method: str) -> None:
    from modelworks.serving.rpc.service import RpcService
    from modelworks.serving.rpc.statuses import Status

    outcome: list[Any] = []

    class Call:
        gone, on_gone, timeout_s = False, None, None
        metadata = {"authorization": f"Bearer {served.token}"}  # noqa: RUF012

        def __init__(self) -> None:
            self.method, self.message = f"/inference.GRPCInferenceService/{method}", message

        def reply(self, data: bytes) -> None:
            outcome.append(data)

        def fail(self, status: Status, text: str) -> None:
            outcome.append(status)

    service = RpcService(served.server.access, served.server.plane, served.server.repository)
    served.on_loop(lambda: service.handle(Call()))
    assert outcome and outcome[0] is not Status.INTERNAL


def test_the_document_names_every_route(served: Any) -> None:
    document = served.request("GET", "/openapi.json", token=None)[1]
    named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert named == {(route.method, route.pattern) for route in served.server.application.routes}
    assert not [path for _, path in named if re.search(r"[^\w/{}.]", path)]


def _frames(token: str) -> list[bytes]:
    """Return what clients of the gRPC port send: calls of every kind, and the connection's own frames."""
    infer = messages().ModelInferRequest(model_name="adder")
    infer.inputs.add(name="numbers", datatype="FP32", shape=[1, 3])
    infer.raw_input_contents.append(b"\0" * 12)
    bodies = {
        "/inference.GRPCInferenceService/ModelInfer": infer.SerializeToString(),
        "/inference.GRPCInferenceService/ModelStreamInfer": infer.SerializeToString(),
        "/inference.GRPCInferenceService/ModelMetadata": b"\x0a\x05adder",
        "/grpc.health.v1.Health/Check": b"",
        "/grpc.health.v1.Health/Watch": b"",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": b"\x3a\0",
    }
    made = []
    for number, (path, body) in enumerate(bodies.items()):
        fields = {
            ":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers",
            "content-type": "application/grpc", "grpc-timeout": "1S", "authorization": f"Bearer {token}",
        }  # fmt: skip
        block = encode([(name.encode(), value.encode()) for name, value in fields.items()])
        stream = 2 * number + 1
        made.append(
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)
            + frames.frame(frames.DATA, frames.END_STREAM, stream, frames.framed(body))
        )
    made += [
        frames.settings({frames.INITIAL_WINDOW: 20, frames.MAX_FRAME: 20_000}),
        frames.frame(frames.PING, 0, 0, b"12345678"),
        frames.window_update(0, 1000),
        frames.window_update(1, 1000),
        frames.frame(frames.RST_STREAM, 0, 1, b"\0\0\0\x08"),
        frames.frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x10"),
        frames.frame(frames.GOAWAY, 0, 0, b"\0" * 8),
    ]
    return made


@pytest.mark.parametrize("part", range(2))
def test_mutated_frames_never_crash_the_server(
    served: Any, part: int, caplog: pytest.LogCaptureFixture
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    originals = _frames(served.token)
    with caplog.at_level(logging.ERROR):
        for _ in range(250 * TIMES):
            parts = [rng.choice(originals) for _ in range(rng.randint(1, 8))]
            sent = b"".join(_mutate(item, rng) if rng.random() < 0.5 else item for item in parts)
            with socket.create_connection(("127.0.0.1", served.address.grpc_port), timeout=5) as sock:
                try:
                    sock.sendall(frames.PREFACE + frames.settings({}) + sent)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass
                except (ConnectionError, TimeoutError):
                    pass
    assert not caplog.records, (seed, caplog.records[0].getMessage(), caplog.records[0].exc_info)
    carrier = served.server._rpc
    for _ in range(100):
        if served.on_loop(lambda: not carrier.connections and not carrier.bodies_bytes):
            break
        time.sleep(0.05)
    else:
        raise AssertionError((seed, "connections or bytes were left behind"))
    assert served.on_loop(lambda: served.server.plane.in_flight) == 0
    assert served.on_loop(lambda: len(carrier.service.health._watchers)) == 0
    _assert_answers(served)
