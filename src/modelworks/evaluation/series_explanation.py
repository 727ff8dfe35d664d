"""Why a series or a window got its answer: what each stretch of it adds, against the same series without its shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import UsageError
from modelworks.core.signature import Signature, Tensor
from modelworks.evaluation.explanation import explain
from modelworks.evaluation.sample_explanation import one_answer

STRETCHES, MOST_PARTS = 12, 48
WALKS = 24
Outputs = Mapping[str, npt.NDArray[Any]]


def of_series(signature: Signature) -> bool:
    """Say whether a model reads nothing but series, windows and their moment."""
    shaped = [tensor for tensor in signature.inputs if len(tensor.shape) == 3 and tensor.datatype == "FP32"]
    return bool(shaped) and all(
        tensor in shaped or (tensor.datatype == "INT64" and not tensor.payload) for tensor in signature.inputs
    )


def explain_series(
    signature: Signature,
    run: Callable[[dict[str, npt.NDArray[Any]]], Outputs],
    feeds: Mapping[str, npt.NDArray[Any]],
) -> dict[str, Any]:
    """Return what each stretch of one series adds to its answer, as ``evaluation.explain`` does for columns.

    A stretch that is absent holds the mean of its channel, so the base is the answer to the same levels without shape.
    Of a forecast the mean over the horizon is explained; of a detector the score.

    Args:
        signature: Signature of the graph.
        run: Runs the graph on feeds of many rows.
        feeds: Feeds of the one row.

    Raises:
        UsageError: A channel holds no value at all.
    """
    parts: list[tuple[str, Tensor, int, slice]] = []
    flat: dict[str, npt.NDArray[np.float32]] = {}
    shaped = [tensor for tensor in signature.inputs if len(tensor.shape) == 3]
    channels = sum(feeds[tensor.name].shape[1] for tensor in shaped)
    count = max(1, min(STRETCHES, MOST_PARTS // channels))
    for tensor in shaped:
        values = feeds[tensor.name][0]
        known = np.isfinite(values)
        if not known.any(axis=1).all():
            raise UsageError("A channel of the series holds no value.", code="MW1342", hint="--row 0")
        totals = np.where(known, values, 0).sum(axis=1, dtype=np.float64) / known.sum(axis=1)
        flat[tensor.name] = np.repeat(totals[:, None], values.shape[1], axis=1).astype(np.float32)
        last = int(np.flatnonzero(known.any(axis=0))[-1]) + 1
        for channel in range(len(values)):
            named = f"{tensor.columns[0]} {channel}" if len(values) > 1 else tensor.columns[0]
            for block in np.array_split(np.arange(last), min(count, last)):
                spot = slice(int(block[0]), int(block[-1]) + 1)
                parts.append((f"{named}, {_spot(spot, values.shape[1], tensor.name)}", tensor, channel, spot))

    def predict(columns: Mapping[str, Any]) -> Outputs:
        rows = len(next(iter(columns.values())))
        given = {name: np.repeat(values, rows, axis=0) for name, values in feeds.items()}
        for name, tensor, channel, spot in parts:
            absent = np.asarray(columns[name]) == 0
            given[tensor.name][absent, channel, spot] = flat[tensor.name][channel, spot]
        return one_answer(run(given))

    here = {name: np.ones(1) for name, *_ in parts}
    (found,) = explain(predict, here, {name: np.zeros(WALKS) for name, *_ in parts})
    for item in found["contributions"]:
        place = next(part for part in parts if part[0] == item["column"])
        values = feeds[place[1].name][0, place[2], place[3]]
        item["value"] = f"mean {np.nanmean(values):.4g}" if np.isfinite(values).any() else "(missing)"
    return {**found, "base_is": "the same series held at its mean"}


def _spot(spot: slice, length: int, name: str) -> str:
    """Name a stretch by how many values from the newest it is, or ahead."""
    if name == "future":
        return f"{spot.start + 1} to {spot.stop} ahead"
    return f"{spot.start + 1} to {spot.stop} of {length}"
