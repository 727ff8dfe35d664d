"""Inference requests and responses of the gRPC door: raw bytes or typed contents to arrays, arrays to raw bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelworks.core.signature import Signature
from modelworks.serving.errors import BadRequest
from modelworks.serving.model import Answer
from modelworks.serving.rest.codec import check_datatype
from modelworks.serving.routing import Target
from modelworks.serving.tensors import (
    DTYPES,
    Array,
    check_shape,
    datatype_of,
    elements,
    from_binary,
    to_binary,
)

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parameters_of(parameters: Any) -> dict[str, Any]:
    """Return a map of ``InferParameter`` as plain values."""
    if not parameters:
        return {}
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(value, choice)
    return found


def decode(request: Any, signature: Signature) -> tuple[dict[str, Array], tuple[str, ...] | None]:
    """Return the feeds of a ``ModelInferRequest`` and the names of the outputs asked for (``None``: all).

    Raises:
        BadRequest: It does not fit the signature.
    """
    known = {tensor.name: tensor for tensor in signature.inputs}
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadRequest(f"{len(request.inputs)} inputs, but {len(raw)} raw contents.", code="MW1413")
    feeds: dict[str, Array] = {}
    for index, sent in enumerate(request.inputs):
        tensor = known.get(sent.name)
        if tensor is None or sent.name in feeds:
            raise BadRequest(
                f"Input '{sent.name[:100]}' {'occurs twice' if tensor else 'is not one of the model'}; "
                f"it takes {', '.join(known)}.",
                code="MW1414",
            )
        check_datatype(tensor, sent.datatype)
        shape = list(sent.shape)
        check_shape(tensor, shape)
        if raw:
            feeds[sent.name] = from_binary(sent.name, sent.datatype, shape, raw[index])
        else:
            feeds[sent.name] = _from_contents(sent, shape)
    if len(feeds) != len(known):
        missing = ", ".join(f"'{name}'" for name in known if name not in feeds)
        raise BadRequest(f"The model's input {missing} is missing.", code="MW1414")
    return feeds, _outputs(request, signature)


def _from_contents(sent: Any, shape: list[int]) -> Array:
    field = _CONTENTS.get(sent.datatype)
    if field is None:
        raise BadRequest(f"Input '{sent.name}': {sent.datatype} is sent as raw contents.", code="MW1416")
    values = getattr(sent.contents, field)
    if len(values) != elements(shape):
        raise BadRequest(
            f"Input '{sent.name}': shape {shape} needs {elements(shape)} values, got {len(values)}.",
            code="MW1404",
        )
    if sent.datatype == "BYTES":
        texts = np.empty(len(values), dtype=object)
        for index, value in enumerate(values):
            try:
                texts[index] = value.decode()
            except UnicodeDecodeError:
                raise BadRequest(f"Input '{sent.name}', text {index} is not UTF-8.", code="MW1405") from None
        return texts.reshape(shape)
    try:
        return np.array(values, dtype=DTYPES[sent.datatype]).reshape(shape)
    except (OverflowError, ValueError):
        raise BadRequest(
            f"Input '{sent.name}': a value does not fit into {sent.datatype}.", code="MW1405"
        ) from None


def _outputs(request: Any, signature: Signature) -> tuple[str, ...] | None:
    if not request.outputs:
        return None
    known = [tensor.name for tensor in signature.outputs]
    for output in request.outputs:
        if output.name not in known:
            raise BadRequest(
                f"The model has no output '{output.name[:100]}'; it has {', '.join(known)}.", code="MW1417"
            )
        for name in ("classification", "shared_memory_region"):
            if name in output.parameters:
                raise BadRequest(f"The output parameter '{name}' is not served.", code="MW1415")
    return tuple(dict.fromkeys(output.name for output in request.outputs))


def encode(
    response_class: Any, target: Target, request_id: str, outputs: tuple[str, ...] | None, answer: Answer
) -> Any:
    """Return a ``ModelInferResponse`` with raw contents."""
    response = response_class(model_name=target.endpoint, model_version=target.number, id=request_id)
    for tensor in target.signature.outputs:
        if outputs is not None and tensor.name not in outputs:
            continue
        array = answer[tensor.name]
        response.outputs.add(name=tensor.name, datatype=datatype_of(array), shape=array.shape)
        response.raw_output_contents.append(to_binary(array))
    return response
