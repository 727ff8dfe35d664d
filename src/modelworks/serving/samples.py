"""Rows a model is tried on when it is loaded: do two stacked ones get the answers each gets alone?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelworks.compute.feeds import pack_rows
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import ModelworksError
from modelworks.core.signature import Signature, Tensor
from modelworks.serving.tensors import DTYPES, Array, same_values


def sample_feeds(signature: Signature, examples: Mapping[str, Any] | None) -> list[dict[str, Array]]:
    """Return two different one-row feeds: golden rows if there are any, else made-up values; empty if a size is
    unknown."""
    if examples is not None and all(tensor.columns for tensor in signature.inputs):
        try:
            return _of_one_size([pack_rows(signature, [row]) for row in list(examples["rows"])[:2]])
        except (ModelworksError, KeyError, TypeError):
            return []
    if any(axis < 0 for tensor in signature.inputs for axis in tensor.shape[1:]):
        return []
    random = np.random.default_rng(0)
    return [{tensor.name: _made_up(tensor, random) for tensor in signature.inputs} for _ in range(2)]


def _of_one_size(feeds: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """Return two feeds that can be stacked: where samples differ in size, the second is the first one reversed."""
    if len(feeds) == 2 and any(array.shape != feeds[1][name].shape for name, array in feeds[0].items()):
        return [feeds[0], {name: np.ascontiguousarray(array[:, ::-1]) for name, array in feeds[0].items()}]
    return feeds


def _made_up(tensor: Tensor, random: np.random.Generator) -> Array:
    shape = (1, *tensor.shape[1:])
    if tensor.datatype == "BYTES":
        return np.full(shape, f"text {random.integers(100)}", dtype=object)
    dtype = DTYPES[tensor.datatype]
    if dtype.kind == "f":
        return random.uniform(0.1, 0.9, shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)


def stacks(session: GraphSession, signature: Signature, samples: list[dict[str, Array]]) -> bool:
    """Say whether two stacked rows get the answers each gets alone (else the model is never batched)."""
    if len(samples) < 2 or any(tensor.shape[0] >= 0 for tensor in signature.inputs):
        return False
    one, other = samples
    try:
        both = session.run({name: np.concatenate([array, other[name]]) for name, array in one.items()})
        alone = [session.run(one), session.run(other)]
    except Exception:
        return False
    return all(
        same_values(answer[name], both[name][row : row + 1], relative=1e-3)
        for row, answer in enumerate(alone)
        for name in answer
    )
