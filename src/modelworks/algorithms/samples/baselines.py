"""The constant answer as a head: what a model that looks at nothing would say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.samples.head import linear_head
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.training.heads.task import MISSING

Doubles = npt.NDArray[np.float64]


def constant_head(train: TrainingSamples, backbone: str) -> bytes:
    """Return the head on ``backbone`` that answers class shares, or the mean, whatever it is given."""
    width = train.embeddings[backbone].shape[1]
    bias = _levels(train)
    onnx, _ = linear_head(
        train.kind, np.zeros((width, len(bias)), np.float32), bias.astype(np.float32), train.classes
    )
    return onnx


def _levels(train: TrainingSamples) -> Doubles:
    target = train.target
    if train.kind is TaskKind.REGRESSION:
        return np.array([np.nanmean(target)])
    if train.kind is TaskKind.MULTILABEL:
        known = target != MISSING
        share = ((target == 1).sum(axis=0) + 0.5) / (known.sum(axis=0) + 1.0)
        return np.asarray(np.log(share / (1 - share)))
    counts = np.bincount(target[target >= 0].astype(np.int64), minlength=len(train.classes)) + 0.5
    share = counts / counts.sum()
    if train.kind is TaskKind.BINARY:
        return np.array([np.log(share[1] / share[0])])
    return np.asarray(np.log(share))
