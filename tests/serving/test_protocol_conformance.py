"""The public Triton client, HTTP and gRPC, works unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from serving_kit import adder, echo, running
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

TYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
)


def _sample(datatype: str) -> Any:
    if datatype == "BYTES":
        return np.array([["a", "", "ä€𐍈"], ["x\x00y", "long " * 50, "z"]], dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    dtype = np.dtype(triton_to_np_dtype(datatype))
    if dtype.kind == "f":
        return np.array([[0.0, -1.5, 2.25], [1e-3, 7.0, -0.0]], dtype=dtype)
    info = np.iinfo(dtype)
    return np.array([[info.min, info.max, 0], [1, 2, 3]], dtype=dtype)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    sources = [adder(), *(echo(datatype) for datatype in TYPES)]
    with running(tmp_path_factory.mktemp("home"), sources, grpc_port=0) as server:
        yield server


@pytest.fixture
def http_client(served: Any) -> Any:
    client = triton_http.InferenceServerClient(f"127.0.0.1:{served.address.port}")
    yield client
    client.close()


@pytest.fixture
def grpc_client(served: Any) -> Any:
    client = triton_grpc.InferenceServerClient(f"127.0.0.1:{served.address.grpc_port}")
    yield client
    client.close()


@pytest.fixture
def headers(served: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {served.token}"}


@pytest.mark.parametrize("datatype", TYPES)
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_http_returns_every_datatype_unchanged(
    http_client: Any, headers: dict[str, str], datatype: str, binary_in: bool, binary_out: bool
) -> None:
    if datatype == "FP16" and not binary_in:
        pytest.skip("the client itself refuses FP16 as JSON")
    sent = _sample(datatype)
    tensor = triton_http.InferInput("x", sent.shape, datatype)
    tensor.set_data_from_numpy(sent, binary_data=binary_in)
    asked = triton_http.InferRequestedOutput("y", binary_data=binary_out)
    result = http_client.infer(
        f"echo_{datatype.lower()}", [tensor], outputs=[asked], request_id="r 1", headers=headers
    )
    found = result.as_numpy("y")
    if datatype == "BYTES":
        found = np.array(
            [value.decode() if isinstance(value, bytes) else value for value in found.ravel()]
        ).reshape(sent.shape)
    assert np.array_equal(found, sent)
    assert result.get_response()["id"] == "r 1"


@pytest.mark.parametrize("datatype", TYPES)
def test_grpc_returns_every_datatype_unchanged(
    grpc_client: Any, headers: dict[str, str], datatype: str
) -> None:
    sent = _sample(datatype)
    tensor = triton_grpc.InferInput("x", sent.shape, datatype)
    tensor.set_data_from_numpy(sent)
    result = grpc_client.infer(f"echo_{datatype.lower()}", [tensor], request_id="7", headers=headers)
    found = result.as_numpy("y")
    if datatype == "BYTES":
        found = np.array([value.decode() for value in found.ravel()]).reshape(sent.shape)
    assert np.array_equal(found, sent)
    assert result.get_response().id == "7"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_http_compression_both_ways(http_client: Any, headers: dict[str, str], coding: str) -> None:
    sent = np.arange(30_000, dtype=np.float32).reshape(100, 300)
    tensor = triton_http.InferInput("x", sent.shape, "FP32")
    tensor.set_data_from_numpy(sent)
    result = http_client.infer(
        "echo_fp32", [tensor], headers=headers,
        request_compression_algorithm=coding, response_compression_algorithm=coding,
    )  # fmt: skip
    assert np.array_equal(result.as_numpy("y"), sent)


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_health_metadata_index_load_unload(
    door: str, http_client: Any, grpc_client: Any, headers: dict[str, str]
) -> None:
    client = http_client if door == "http" else grpc_client
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("adder", headers=headers)
    options = {} if door == "http" else {"as_json": True}
    assert client.get_server_metadata(headers=headers, **options)["name"] == "modelworks"
    metadata = client.get_model_metadata("adder", headers=headers, **options)
    assert metadata["inputs"][0]["name"] == "numbers"
    assert [int(axis) for axis in metadata["inputs"][0]["shape"]] == [-1, 3]
    if door == "http":
        assert metadata["inputs"][0]["parameters"] == {"columns": ["c0", "c1", "c2"]}
    client.load_model("adder", headers=headers)
    entries = _index(client, door, headers, options)
    assert entries["adder"]["state"] == "READY"
    with pytest.raises(InferenceServerException, match="MW1415: A load takes no parameters \\(config"):
        client.load_model("adder", headers=headers, config="{}")
    client.unload_model("adder", headers=headers)
    assert not client.is_model_ready("adder", headers=headers)
    assert _index(client, door, headers, options)["adder"]["state"] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="unloaded"):
        _add(client, triton_http if door == "http" else triton_grpc, headers)
    client.load_model("adder", headers=headers)
    assert client.is_model_ready("adder", headers=headers)
    assert _add(client, triton_http if door == "http" else triton_grpc, headers).tolist() == [7.0]


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_the_index_says_of_a_cold_model_what_the_ready_verb_says(tmp_path: Path, door: str) -> None:
    with running(tmp_path, [adder()], grpc_port=0) as server:
        module, port = (
            (triton_http, server.address.port) if door == "http" else (triton_grpc, server.address.grpc_port)
        )
        headers = {"authorization": f"Bearer {server.token}"}
        options = {} if door == "http" else {"as_json": True}
        with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.is_model_ready("adder", headers=headers)
            entry = _index(client, door, headers, options)["adder"]
            assert (entry["state"], entry["reason"]) == ("READY", "loads on first use")
            client.unload_model("adder", headers=headers)
            status, body, _ = server.request("GET", "/v2/models/adder/ready")
            assert status == 503
            assert body["error"] == "MW2312: Model 'adder' is not ready: unloaded by an admin."


def _index(
    client: Any, door: str, headers: dict[str, str], options: dict[str, Any]
) -> dict[str, dict[str, str]]:
    index = client.get_model_repository_index(headers=headers, **options)
    return {entry["name"]: entry for entry in (index["models"] if door == "grpc" else index)}


def _add(client: Any, module: Any, headers: dict[str, str], **options: Any) -> Any:
    sent = np.array([[1, 2, 3]], dtype=np.float32)
    tensor = module.InferInput("numbers", sent.shape, "FP32")
    tensor.set_data_from_numpy(sent)
    return client.infer("adder", [tensor], headers=headers, **options).as_numpy("prediction")


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_errors_reach_the_client_as_the_protocol_says(
    door: str, http_client: Any, grpc_client: Any, headers: dict[str, str]
) -> None:
    client, module = (http_client, triton_http) if door == "http" else (grpc_client, triton_grpc)
    wrong = np.zeros((1, 4), dtype=np.float32)
    tensor = module.InferInput("numbers", wrong.shape, "FP32")
    tensor.set_data_from_numpy(wrong)
    with pytest.raises(
        InferenceServerException, match=r"MW1403: Input 'numbers': expected shape \[rows, 3\]"
    ) as caught:
        client.infer("adder", [tensor], headers=headers)
    assert "INVALID_ARGUMENT" in caught.value.status() if door == "grpc" else caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match=r"no model 'addr'.*Did you mean 'adder'"):
        client.infer("addr", [tensor], headers=headers)
    with pytest.raises(InferenceServerException, match="has no version '9'"):
        client.infer("adder", [tensor], model_version="9", headers=headers)
    with pytest.raises(InferenceServerException, match="MW3410"):
        client.infer("adder", [tensor])


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_versions_outputs_priority_and_timeout(
    door: str, http_client: Any, grpc_client: Any, headers: dict[str, str]
) -> None:
    client, module = (http_client, triton_http) if door == "http" else (grpc_client, triton_grpc)
    options = {"model_version": "1", "priority": 2, "timeout": 5_000_000}
    assert _add(client, module, headers, **options).tolist() == [7.0]
    asked = module.InferRequestedOutput("nothing")
    tensor = module.InferInput("numbers", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 3), dtype=np.float32))
    with pytest.raises(InferenceServerException, match="no output 'nothing'"):
        client.infer("adder", [tensor], outputs=[asked], headers=headers)


def test_grpc_stream_answers_every_request_and_reports_errors_in_place(
    served: Any, headers: dict[str, str]
) -> None:
    import queue

    answers: queue.Queue[Any] = queue.Queue()
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{served.address.grpc_port}") as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=headers)
        for number in range(20):
            tensor = triton_grpc.InferInput("numbers", [1, 3], "FP32")
            tensor.set_data_from_numpy(np.full((1, 3), number, dtype=np.float32))
            client.async_stream_infer("adder" if number != 5 else "missing", [tensor], request_id=str(number))
        found = [answers.get(timeout=20) for _ in range(20)]
        client.stop_stream()
    good = {
        result.get_response().id: float(result.as_numpy("prediction")[0])
        for result, error in found
        if error is None
    }
    assert good == {str(number): 3.0 * number + 1 for number in range(20) if number != 5}
    assert sum(error is not None and "no model 'missing'" in str(error) for _, error in found) == 1


def test_messages_are_the_public_protocol() -> None:
    import tritonclient.grpc.service_pb2 as public

    from modelworks.serving.rpc.messages import messages

    def check(ours: Any, theirs: Any) -> None:
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (
                other.number,
                other.type,
                other.is_repeated,
            )
        for nested in ours.nested_types:
            check(nested, theirs.nested_types_by_name[nested.name])

    for name, kind in messages().classes.items():
        check(kind.DESCRIPTOR, getattr(public, name).DESCRIPTOR)


def test_client_sees_a_cold_start(tmp_path: Path) -> None:
    with running(tmp_path, [adder()], keep_ready=False) as server:
        assert server.server.plane.routes["adder"].champion.resident.lane is None
        status, body, _ = server.infer("adder", [[1, 2, 3]])
        assert (status, body["outputs"][0]["data"]) == (200, [7.0])
