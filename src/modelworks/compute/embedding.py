"""Running a backbone over a column of payloads in batches; memory holds a few hundred decoded samples at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.compute.feeds import batches
from modelworks.compute.runtime import GraphSession
from modelworks.core.backbone import EMBEDDING
from modelworks.core.signature import Signature, Tensor, Tokenizer

Floats = npt.NDArray[np.float32]

CHUNK = 256
"""Samples whose decoded values are held at once."""


def embed_column(
    onnx: bytes,
    inputs: tuple[Tensor, ...],
    values: Sequence[Any] | npt.NDArray[Any],
    *,
    tokenizer: Tokenizer | None = None,
    stopped: Callable[[], None] = lambda: None,
) -> Floats:
    """Return the embeddings of payloads, in their order.

    Args:
        onnx: Graph of a backbone, with the output ``embedding``.
        inputs: Its inputs; the first one's first column names what ``values`` hold.
        values: Texts; images as encoded bytes or pixels; series ``[channels, length]``.
        tokenizer: Turns texts into tokens, where the graph reads those.
        stopped: Called between batches; raises to end the work.

    Returns:
        float32 ``[rows, width]``.

    Raises:
        DataError: A value is no payload of this modality.
    """
    session = GraphSession(onnx)
    signature = Signature(inputs=inputs, outputs=(), tokenizer=tokenizer)
    column = inputs[0].columns[0]
    parts: list[Floats] = []
    for start in range(0, len(values), CHUNK):
        chunk = objects(values[start : start + CHUNK])
        part: Floats | None = None
        for rows, feeds in batches(signature, {column: chunk}, len(chunk)):
            stopped()
            found = session.run(feeds, [EMBEDDING])[EMBEDDING]
            if part is None:
                part = np.empty((len(chunk), found.shape[1]), np.float32)
            part[rows] = found
        assert part is not None
        parts.append(part)
    return np.concatenate(parts)


def objects(values: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    """Return values as an array of objects, one per row, whatever their shapes."""
    found = np.empty(len(values), object)
    for index, value in enumerate(values):
        found[index] = value
    return found
