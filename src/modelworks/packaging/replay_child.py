"""What runs in the limited child: inspect the graph, load it, answer the golden rows."""

from __future__ import annotations

import json
import socket
from typing import Any

import numpy as np

from modelworks.compute import feeds
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import DataError, ModelworksError, TrustError
from modelworks.core.signature import Signature
from modelworks.packaging import inspection, sandbox, wire
from modelworks.packaging.zygote import receive_frame, send_frame

ORT_TYPES = {
    "FP32": "tensor(float)", "FP64": "tensor(double)", "INT64": "tensor(int64)", "INT32": "tensor(int32)",
    "BYTES": "tensor(string)", "BOOL": "tensor(bool)", "UINT8": "tensor(uint8)",
}  # fmt: skip


def warm_up() -> None:
    """Do once what every child would otherwise repeat."""
    feeds.datetime_microseconds("2000-01-01T00:00:00+00:00")
    for fields in (inspection.ATTRIBUTE_FIELDS, inspection.TENSOR_FIELDS):
        for number, field in fields.items():
            if field.texts:
                wire.text_patterns(number << 3 | field.wire)
    np.isfinite(np.zeros(1, np.float32)).all()


def answer(channel: socket.socket) -> None:
    """Read one request from ``channel``, answer it, return; runs in a process that ends afterwards."""
    header = json.loads(receive_frame(channel))
    onnx = receive_frame(channel)
    limits = header["limits"]
    protections = {"network_namespace": bool(limits["namespace"]) and sandbox.leave_network()}
    sandbox.limit_process(int(limits["cpu_s"]))
    sandbox.limit_memory(int(limits["memory_mb"]) * 2**20 + 4 * len(onnx))
    protections["system_calls"] = sandbox.forbid_system_calls()
    try:
        summary = inspection.inspect_bytes(onnx, inspection.GraphLimits(**header["graph_limits"]))
        send_frame(channel, json.dumps({"graph": summary, "protections": protections}).encode())
        if header["rows"] is not None:
            send_frame(channel, json.dumps({"answers": _replay(onnx, header)}).encode())
    except ModelworksError as error:
        send_frame(channel, json.dumps({"error": error.to_json()}).encode())
    except MemoryError:
        raise
    except Exception as error:
        failed = TrustError(f"The child that opened the graph failed: {error!r:.300}", code="MW3308")
        send_frame(channel, json.dumps({"error": failed.to_json()}).encode())


def _replay(onnx: bytes, header: dict[str, Any]) -> dict[str, Any]:
    signature = Signature.from_json(header["signature"])
    session = GraphSession(onnx)
    _check_types(session, signature)
    try:
        rows = feeds.pack_rows(signature, header["rows"])
    except DataError as error:
        raise TrustError(
            f"examples.json does not fit the signature: {error.message}", code="MW3304"
        ) from error
    try:
        answers = session.run(rows, [tensor.name for tensor in signature.outputs])
    except Exception as error:
        raise TrustError(
            f"The graph fails on its own golden examples: {str(error).splitlines()[0][:200]}", code="MW3305"
        ) from error
    for name, found in answers.items():
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise TrustError(f"The graph answers '{name}' with a number that is not finite.", code="MW3306")
    return {name: found.tolist() for name, found in answers.items()}


def _check_types(session: GraphSession, signature: Signature) -> None:
    for what, declared, found in (
        ("inputs", signature.inputs, session.inputs),
        ("outputs", signature.outputs, session.outputs),
    ):
        missing = {tensor.name for tensor in declared} ^ set(found)
        if missing:
            raise TrustError(
                f"The graph's {what} are not those of the manifest: {sorted(missing)!r:.200}.", code="MW3307"
            )
