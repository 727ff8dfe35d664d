"""What a network answers: rows as its inputs, scores of many rows in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.training.deep.examples import Examples, Floats
from modelworks.training.deep.group import Group
from modelworks.training.deep.library import load_torch


def as_inputs(values: npt.NDArray[Any], device: str = "cpu") -> Any:
    """Return rows of ``Examples.inputs`` as what a network takes; bytes of images become numbers in [-1, 1]."""
    torch = load_torch()
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(device)
    if tensor.dtype == torch.uint8:
        scaled = tensor.float() * (1 / 127.5) - 1
        return scaled.contiguous(memory_format=torch.channels_last)
    return tensor.long() if tensor.dtype in (torch.int32, torch.int64) else tensor


def predict(
    network: Any, examples: Examples, group: Group | None = None, *, device: str = "cpu", batch: int = 256
) -> Floats:
    """Return the scores of a network in evaluation mode, ``float32 [n, outputs]``; processes share the rows."""
    torch = load_torch()
    group = group or Group()
    network.eval()
    scores = np.zeros((examples.rows, examples.outputs), np.float32)
    mine = np.arange(group.rank, examples.rows, group.size)
    with torch.inference_mode():
        for start in range(0, len(mine), batch):
            rows = mine[start : start + batch]
            scores[rows] = network(as_inputs(examples.inputs[rows], device)).float().cpu().numpy()
    return group.gathered(scores)
