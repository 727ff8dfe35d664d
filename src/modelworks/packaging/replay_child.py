"""What runs in the limited child: inspect the graph, load it, answer the golden rows."""

from __future__ import annotations

import json
import socket
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.compute import feeds, tokens
from modelworks.compute.payloads import pack_payload
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import DataError, ModelworksError, TrustError
from modelworks.core.signature import Signature, Tensor, Tokenizer
from modelworks.packaging import golden, inspection, sandbox, wire
from modelworks.packaging.zygote import receive_frame, send_frame

NUMPY_KINDS = {
    "FP32": "float32", "FP64": "float64", "INT64": "int64", "INT32": "int32", "BYTES": "object", "BOOL": "bool",
    "UINT8": "uint8",
}  # fmt: skip

PLAIN_TOKENIZER = Tokenizer(
    sha256="",
    max_tokens=8,
    data=b'{"version":"1.0","model":{"type":"WordLevel","vocab":{"[UNK]":0},"unk_token":"[UNK]"}}',
)
"""The smallest there is, to warm up with."""


def warm_up() -> None:
    """Do once what loads modules on its first use; a limited child can open no file to load them from."""
    feeds.datetime_microseconds("2000-01-01T00:00:00+00:00")
    np.isfinite(np.zeros(1, np.float32)).all()
    for datatype, shape, value in (
        ("INT64", (-1, -1), "text"),
        ("UINT8", (-1, -1, -1, 3), [[[0, 0, 0]]]),
        ("FP32", (-1, 1, 1), [0]),
    ):
        pack_payload(Tensor(name="x", datatype=datatype, shape=shape, columns=("x",)), [value])
    if find_spec("tokenizers") is not None:
        tokens.token_feeds(PLAIN_TOKENIZER, ["text"])
    for fields in (inspection.ATTRIBUTE_FIELDS, inspection.TENSOR_FIELDS):
        for number, field in fields.items():
            if field.texts:
                wire.text_patterns(number << 3 | field.wire)


def answer(channel: socket.socket) -> None:
    """Read one request from ``channel``, answer it, return; runs in a process that ends afterwards."""
    header = json.loads(receive_frame(channel))
    onnx, tokenizer = receive_frame(channel), receive_frame(channel)
    limits = header["limits"]
    protections = {"network_namespace": bool(limits["namespace"]) and sandbox.leave_network()}
    sandbox.limit_process(int(limits["cpu_s"]))
    sandbox.limit_memory(int(limits["memory_mb"]) * 2**20 + 4 * len(onnx))
    protections["system_calls"] = sandbox.forbid_system_calls()
    try:
        summary = inspection.inspect_bytes(onnx, inspection.GraphLimits(**header["graph_limits"]))
        send_frame(channel, json.dumps({"graph": summary, "protections": protections}).encode())
        if header["rows"] is not None:
            send_frame(channel, json.dumps({"answers": _replay(onnx, tokenizer, header)}).encode())
    except ModelworksError as error:
        send_frame(channel, json.dumps({"error": error.to_json()}).encode())
    except MemoryError:
        raise
    except Exception as error:
        failed = TrustError(f"The child that opened the graph failed: {error!r:.300}", code="MW3308")
        send_frame(channel, json.dumps({"error": failed.to_json()}).encode())


def _replay(onnx: bytes, tokenizer: bytes, header: dict[str, Any]) -> dict[str, Any]:
    signature = Signature.from_json(header["signature"])
    if signature.tokenizer is not None:
        signature = signature.with_tokenizer(tokenizer)
    session = GraphSession(onnx)
    _check_names(session, signature)
    try:
        answers = golden.answer_rows(session, signature, header["rows"])
    except DataError as error:
        raise TrustError(
            f"examples.json does not fit the signature: {error.message}", code="MW3304"
        ) from error
    except Exception as error:
        raise TrustError(
            f"The graph fails on its own golden examples: {str(error).splitlines()[0][:200]}", code="MW3305"
        ) from error
    for tensor in signature.outputs:
        _check_answer(tensor, answers[tensor.name], len(header["rows"]))
    return {name: found.tolist() for name, found in answers.items()}


def _check_names(session: GraphSession, signature: Signature) -> None:
    for what, declared, found in (
        ("inputs", signature.inputs, session.inputs),
        ("outputs", signature.outputs, session.outputs),
    ):
        differing = {tensor.name for tensor in declared} ^ set(found)
        if differing:
            raise TrustError(
                f"The graph's {what} are not those of the manifest: {sorted(differing)!r:.200}.",
                code="MW3307",
            )


def _check_answer(tensor: Tensor, found: npt.NDArray[Any], rows: int) -> None:
    shape = (rows, *tensor.shape[1:])
    fits = len(shape) == found.ndim and all(
        want in (-1, size) for want, size in zip(shape, found.shape, strict=True)
    )
    if str(found.dtype) != NUMPY_KINDS.get(tensor.datatype) or not fits:
        raise TrustError(
            f"The manifest declares '{tensor.name}' as {tensor.datatype} {list(tensor.shape)}; "
            f"the graph answers {found.dtype} {list(found.shape)}.",
            code="MW3307",
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise TrustError(
            f"The graph answers '{tensor.name}' with a number that is not finite.", code="MW3306"
        )
