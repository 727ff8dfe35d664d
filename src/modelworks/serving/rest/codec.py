"""The Open Inference Protocol's inference request and response, as JSON with optional binary tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from modelworks.core.signature import Signature, Tensor
from modelworks.serving.errors import BadRequest
from modelworks.serving.tensors import (
    DTYPES,
    UNREADABLE,
    Array,
    check_shape,
    from_binary,
    from_json,
)


class SentInput(msgspec.Struct):
    """One input tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw()


class AskedOutput(msgspec.Struct):
    """One requested output."""

    name: str
    parameters: dict[str, Any] | None = None


class InferBody(msgspec.Struct):
    """The JSON part of an inference request."""

    inputs: list[SentInput]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[AskedOutput] | None = None


_BODY = msgspec.json.Decoder(InferBody)
_LONGEST_US = 1e15
_NONE: frozenset[str] = frozenset()
_UNSUPPORTED = ("shared_memory_region", "classification")


@dataclass(slots=True)
class Asked:
    """A decoded request.

    Attributes:
        feeds: Input name -> array.
        outputs: Output names asked for; ``None`` asks for all.
        id: The client's id.
        binary: Names of outputs to send as binary tensors.
        parameters: Parameters of the request.
        finite: Whether no value can be NaN or infinite; else that is to be looked at.
    """

    feeds: dict[str, Array]
    outputs: tuple[str, ...] | None
    id: str
    binary: frozenset[str]
    parameters: dict[str, Any]
    finite: bool = False


def decode(body: bytes, json_length: str | None, signature: Signature) -> Asked:
    """Decode a request body.

    Args:
        body: The decompressed body.
        json_length: Value of ``Inference-Header-Content-Length``: bytes of JSON before the binary tensors.
        signature: The model's signature.

    Raises:
        BadRequest: The body is not such a request or does not fit the signature.
    """
    tail = memoryview(b"")
    if json_length is not None:
        plain = json_length.isascii() and json_length.isdigit() and len(json_length) <= 15
        if not plain or int(json_length) > len(body):
            raise BadRequest(
                "Inference-Header-Content-Length is not a length within the body.", code="MW1413"
            )
        tail = memoryview(body)[int(json_length) :]
        body = body[: int(json_length)]
    try:
        request = _BODY.decode(body)
    except UNREADABLE as error:
        raise BadRequest(
            f"The body is not an inference request: {str(error)[:200]}.", code="MW1402"
        ) from None
    feeds = _feeds(request.inputs, tail, signature)
    parameters = request.parameters or {}
    outputs, binary = outputs_of(request.outputs, parameters, signature)
    return Asked(feeds, outputs, request.id, binary, parameters)


def _feeds(inputs: list[SentInput], tail: memoryview, signature: Signature) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    offset = 0
    known = signature.inputs
    for sent in inputs:
        tensor = None
        for candidate in known:
            if candidate.name == sent.name:
                tensor = candidate
                break
        if tensor is None or sent.name in feeds:
            raise BadRequest(
                f"Input '{sent.name[:100]}' {'occurs twice' if tensor else 'is not one of the model'}; "
                f"it takes {', '.join(tensor.name for tensor in known)}.",
                code="MW1414",
            )
        check_datatype(tensor, sent.datatype)
        check_shape(tensor, sent.shape)
        size = sent.parameters.get("binary_data_size") if sent.parameters else None
        if size is None:
            if sent.parameters and "shared_memory_region" in sent.parameters:
                raise BadRequest("Shared memory regions are not served; send the data.", code="MW1415")
            if not sent.data:
                raise BadRequest(f"Input '{sent.name}' has no data.", code="MW1404")
            feeds[sent.name] = from_json(sent.name, sent.datatype, sent.shape, sent.data)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - offset:
            raise BadRequest(
                f"Input '{sent.name}': binary_data_size is {size!r:.40}, {len(tail) - offset} bytes are left.",
                code="MW1413",
            )
        feeds[sent.name] = from_binary(sent.name, sent.datatype, sent.shape, tail[offset : offset + size])
        offset += size
    if offset != len(tail):
        raise BadRequest(f"{len(tail) - offset} bytes follow the last binary tensor.", code="MW1413")
    if len(feeds) != len(known):
        missing = ", ".join(f"'{tensor.name}'" for tensor in known if tensor.name not in feeds)
        raise BadRequest(f"The model's input {missing} is missing.", code="MW1414")
    return feeds


def check_datatype(tensor: Tensor, datatype: str) -> None:
    """Raise unless the sent datatype is the signature's."""
    if datatype != tensor.datatype:
        known = "" if datatype in DTYPES else " (which is no datatype that is served)"
        raise BadRequest(
            f"Input '{tensor.name}': the model takes {tensor.datatype}, got {datatype[:20]}{known}.",
            code="MW1416",
        )


def outputs_of(
    asked: Sequence[Any] | None, parameters: dict[str, Any], signature: Signature
) -> tuple[tuple[str, ...] | None, frozenset[str]]:
    """Return the names of the outputs asked for (``None``: all) and of those to be sent as binary tensors.

    Raises:
        BadRequest: There is no such output, or it is asked for in a way that is not served.
    """
    all_binary = parameters.get("binary_data_output") is True
    if not asked:
        return None, frozenset(tensor.name for tensor in signature.outputs) if all_binary else _NONE
    known = [tensor.name for tensor in signature.outputs]
    binary = set()
    for output in asked:
        if output.name not in known:
            raise BadRequest(
                f"The model has no output '{output.name[:100]}'; it has {', '.join(known)}.", code="MW1417"
            )
        wanted = output.parameters or {}
        for name in _UNSUPPORTED:
            if wanted.get(name):
                raise BadRequest(f"The output parameter '{name}' is not served.", code="MW1415")
        if wanted.get("binary_data", all_binary) is True:
            binary.add(output.name)
    return tuple(dict.fromkeys(output.name for output in asked)), frozenset(binary)


def timeout_of(parameters: dict[str, Any]) -> float | None:
    """Return the request's ``timeout`` parameter (microseconds) in seconds.

    Raises:
        BadRequest: It is not a number of microseconds.
    """
    value = parameters.get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LONGEST_US:
        raise BadRequest("The parameter 'timeout' is a number of microseconds.", code="MW1418")
    return float(value) / 1e6 if value else None


def priority_of(parameters: dict[str, Any]) -> int | None:
    """Return the request's ``priority`` parameter: 0 and 1 are interactive, larger ones background.

    Raises:
        BadRequest: It is not a whole number.
    """
    value = parameters.get("priority")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRequest("The parameter 'priority' is a whole number.", code="MW1418")
    return None if value == 0 else int(value > 1)


def key_of(parameters: dict[str, Any]) -> str | None:
    """Return the request's ``key`` parameter: names the subject, for sticky canaries and later outcomes.

    Raises:
        BadRequest: It is not a short text.
    """
    value = parameters.get("key")
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise BadRequest("The parameter 'key' is a text of 1 to 200 characters.", code="MW1418")
    return value
