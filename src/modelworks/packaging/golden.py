"""Golden examples: a few raw rows and what the shipped graph answers to them, replayed at every load."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modelworks.compute.feeds import pack_rows
from modelworks.compute.payloads import image_pixels
from modelworks.core.errors import ExecutionError
from modelworks.core.signature import Signature, Tensor

UNSEEN = "\u2047 never seen in training \u2047"
TOLERANCE = {"absolute": 1e-5, "relative": 1e-4}
"""How far numbers may differ on another machine: FP32 sums in another order, other vector instructions."""

PAYLOAD_ROWS = 3
"""Golden rows that hold a text, image or series: fewer, for they are larger."""

GOLDEN_SIDE = 64
"""Longest side of a golden image, in pixels."""

_UNUSUAL: dict[str, Any] = {"FP32": 1e6, "BYTES": UNSEEN, "INT64": 253402300799000000}
_UNUSUAL_PAYLOADS: dict[str, Any] = {"FP32": 1e6, "UINT8": [[[255, 0, 255]] * 8] * 8, "INT64": UNSEEN}


class Answering(Protocol):
    """What answers feeds: a session, or parts that together answer as one does."""

    def run(
        self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Return output name -> array."""
        ...


def golden_rows(
    signature: Signature, rows: Sequence[Mapping[str, Any]], limit: int = 12
) -> list[dict[str, Any]]:
    """Return up to ``limit`` of ``rows`` and made-up ones: all unseen; where it is possible all and half missing.

    Only columns the graph reads are kept; NaN becomes missing.
    """
    tensors = {name: tensor for tensor in signature.inputs for name in tensor.columns}
    samples = any(tensor.payload for tensor in signature.inputs)
    chosen = rows[: PAYLOAD_ROWS if samples else limit]
    kept = [
        {key: _kept(tensors[key], value) for key, value in row.items() if key in tensors} for row in chosen
    ]
    unseen = {name: _unseen(tensor) for name, tensor in tensors.items()}
    if any(tensor.payload and tensor.datatype != "INT64" for tensor in signature.inputs):
        return [*kept, unseen]
    first = kept[0] if kept else unseen
    half = {name: first.get(name) if index % 2 else None for index, name in enumerate(tensors)}
    return [*kept, dict.fromkeys(tensors), unseen, half]


def golden_examples(
    session: Answering, signature: Signature, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Answer ``rows`` with the shipped graph; returns ``{rows, expected, tolerance}`` as plain JSON data.

    Raises:
        ExecutionError: The graph answers something that is not finite.
    """
    golden = golden_rows(signature, rows)
    answers = answer_rows(session, signature, golden)
    expected = {tensor.name: encode_output(answers[tensor.name], tensor) for tensor in signature.outputs}
    return {"rows": golden, "expected": expected, "tolerance": dict(TOLERANCE)}


def answer_rows(
    session: Answering, signature: Signature, rows: Sequence[Mapping[str, Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Run the graph on raw rows; samples go one by one, for images differ in size."""
    names = [tensor.name for tensor in signature.outputs]
    if not rows or not any(tensor.payload for tensor in signature.inputs):
        return session.run(pack_rows(signature, rows), names)
    parts = [session.run(pack_rows(signature, [row]), names) for row in rows]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _kept(tensor: Tensor, value: Any) -> Any:
    """Return a value as JSON data; an image as pixels, thinned to at most 64 on a side."""
    if not (tensor.payload and tensor.datatype == "UINT8"):
        return _plain(value)
    pixels = image_pixels(value)
    step = -(-max(pixels.shape[:2]) // GOLDEN_SIDE)
    return pixels[::step, ::step].tolist()


def _unseen(tensor: Tensor) -> Any:
    if not tensor.payload:
        return _UNUSUAL[tensor.datatype]
    value = _UNUSUAL_PAYLOADS[tensor.datatype]
    return [[value]] * tensor.shape[1] if tensor.datatype == "FP32" else value


def encode_output(answer: npt.NDArray[Any], tensor: Tensor) -> list[Any]:
    """Return an output array as nested lists of JSON values.

    Raises:
        ExecutionError: A number is not finite.
    """
    if answer.dtype.kind == "f" and not np.isfinite(answer).all():
        row = int(np.argwhere(~np.isfinite(answer))[0][0])
        raise ExecutionError(
            f"The graph answers '{tensor.name}' with a number that is not finite for golden row {row}.",
            code="MW5011",
            hint="mw produce again with another --seed, and report this",
        )
    return list(answer.tolist())


def differences(expected: Any, found: Any, tolerance: Mapping[str, float]) -> int:
    """Count values of nested lists that differ: texts and booleans exactly, numbers within ``tolerance``."""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return 1
        return sum(differences(one, other, tolerance) for one, other in zip(expected, found, strict=True))
    if isinstance(expected, float) and isinstance(found, (float, int)) and not isinstance(found, bool):
        close = math.isclose(
            expected, found, rel_tol=float(tolerance["relative"]), abs_tol=float(tolerance["absolute"])
        )
        return 0 if close else 1
    return 0 if type(expected) is type(found) and expected == found else 1


def _plain(value: Any) -> Any:
    """Return a value as JSON data; NaN becomes missing."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value
