"""Requests as bytes on the wire for the load generator, and one call at a time to compare answers."""

from __future__ import annotations

import http.client
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.serving.models import Model
from modelworks.serving.rpc.messages import messages
from modelworks.serving.tensors import DTYPES

Feeds = dict[str, npt.NDArray[Any]]


def feeds_of(model: Model, rows: int) -> list[Feeds]:
    """Return the model's 64 rows as requests of ``rows`` rows."""
    count = len(next(iter(model.rows.values())))
    return [
        {name: array[start : start + rows] for name, array in model.rows.items()}
        for start in range(0, count - rows + 1, rows)
    ]


def json_body(model: Model, feeds: Feeds) -> bytes:
    """Return the protocol's JSON; BentoML, LitServe and Ray get the same ``inputs``."""
    inputs = [
        {
            "name": tensor.name,
            "shape": list(feeds[tensor.name].shape),
            "datatype": tensor.datatype,
            "data": feeds[tensor.name].ravel().tolist(),
        }
        for tensor in model.signature.inputs
    ]
    return json.dumps({"inputs": inputs}, separators=(",", ":")).encode()


def binary_body(model: Model, feeds: Feeds) -> tuple[bytes, int]:
    """Return the protocol's binary request, with binary outputs asked for, and the length of its JSON part."""
    inputs = [
        {
            "name": tensor.name,
            "shape": list(feeds[tensor.name].shape),
            "datatype": tensor.datatype,
            "parameters": {"binary_data_size": feeds[tensor.name].nbytes},
        }
        for tensor in model.signature.inputs
    ]
    head = json.dumps(
        {"inputs": inputs, "parameters": {"binary_data_output": True}}, separators=(",", ":")
    ).encode()
    return head + raw_body(model, feeds), len(head)


def raw_body(model: Model, feeds: Feeds) -> bytes:
    """Return the tensors' bytes one after the other."""
    return b"".join(np.ascontiguousarray(feeds[tensor.name]).tobytes() for tensor in model.signature.inputs)


def grpc_message(model: Model, feeds: Feeds) -> bytes:
    """Return a ``ModelInferRequest`` with raw contents."""
    request = messages().ModelInferRequest(model_name=model.name)
    for tensor in model.signature.inputs:
        array = feeds[tensor.name]
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=array.shape)
        request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
    return bytes(request.SerializeToString())


def http_request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return a whole request as common clients send it."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "User-Agent: benchmark", "Accept: */*"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def grpc_heads(headers: dict[str, str]) -> list[bytes]:
    """Return the header blocks of a connection's first call and of the others, as gRPC's own clients send them.

    The first adds its fields to the dynamic table (RFC 7541, 6.2.1), the others refer to them (6.1).
    """
    method = "/inference.GRPCInferenceService/ModelInfer"
    first = b"\x83\x86" + _added(4, method) + _added(1, "localhost") + _added(31, "application/grpc")
    fields = {"te": "trailers", "user-agent": "benchmark", **headers}
    for name, value in fields.items():
        first += b"\x40" + _text(name) + _text(value)
    added = 3 + len(fields)
    return [first, b"\x83\x86" + bytes(0x80 | (61 + added - index) for index in range(added))]


def _added(name: int, value: str) -> bytes:
    return bytes([0x40 | name]) + _text(value)


def _text(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()


def write_records(path: Path, records: list[bytes]) -> None:
    """Write records as the load generator reads them."""
    path.write_bytes(b"".join(struct.pack("<I", len(record)) + record for record in records))


def framed(message: bytes) -> bytes:
    """Return a message with gRPC's five bytes before it."""
    return b"\0" + struct.pack(">I", len(message)) + message


# -- one call at a time --------------------------------------------------------------------------------------------


def ask_http(port: int, request: bytes) -> tuple[dict[str, str], bytes]:
    """Send one request; returns headers and body of its 200."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = dict(line.split(": ", 1) for line in lines[1:] if not line.startswith("Content-Length"))
    connection.request("POST", lines[0].split(" ")[1], body, headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {data[:300]!r}")
    return {name.lower(): value for name, value in response.getheaders()}, data


def ask_grpc(port: int, message: bytes, headers: dict[str, str]) -> Any:
    """Send one call; returns the ``ModelInferResponse``."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        data = call(message, timeout=60, metadata=tuple(headers.items()))
    return messages().ModelInferResponse.FromString(data)


def first_output(form: str, headers: dict[str, str], body: Any) -> npt.NDArray[Any]:
    """Return the first output of an answer as a flat array."""
    if form == "grpc":
        output = body.outputs[0]
        if body.raw_output_contents:
            return np.frombuffer(body.raw_output_contents[0], DTYPES[output.datatype])
        return np.array(output.contents.fp32_contents, np.float32)
    length = headers.get("inference-header-content-length")
    if length is not None:
        return np.frombuffer(body[int(length) :], np.float32)
    if headers.get("content-type", "").startswith("application/octet-stream"):
        return np.frombuffer(body, np.float32)
    return np.array(json.loads(body)["outputs"][0]["data"], np.float32).ravel()
