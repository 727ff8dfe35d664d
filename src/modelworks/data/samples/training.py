"""The training samples of one task: payloads, labels, folds, and the embeddings that backbones gave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.backbone import Backbone
from modelworks.core.task import Modality, TaskKind


@dataclass(frozen=True, kw_only=True)
class TrainingSamples:
    """The training rows of one task over samples.

    Attributes:
        payload: Objects, one per row: encoded image bytes, texts, or series ``float32 [channels, length]``.
        column: Name of the payload column: what a caller of the model sends.
        modality: ``image``, ``text`` or ``series``.
        kind: Kind of task.
        target: int64 class codes | float64 | uint8 [rows, labels] with 255 for a missing label, as in
            ``data.TrainingTable``.
        classes: Class or label names in code order; empty for regression.
        weight: float32 row weights, or ``None``.
        folds: int8 fold number of each row.
        grouped: Whether many rows hang together with others of their fold.
        embeddings: Backbone name -> float32 [rows, width].
        backbones: Backbone name -> the backbone; the first is what is taken when all do equally well.
    """

    payload: npt.NDArray[np.object_]
    column: str
    modality: Modality
    kind: TaskKind
    target: npt.NDArray[Any]
    classes: tuple[str, ...]
    weight: npt.NDArray[np.float32] | None
    folds: npt.NDArray[np.int8]
    embeddings: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    backbones: dict[str, Backbone] = field(default_factory=dict)
    grouped: bool = False

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return len(self.folds)

    def take(self, rows: npt.NDArray[Any]) -> TrainingSamples:
        """Return some rows (indices or a mask) as samples of their own."""
        return TrainingSamples(
            payload=self.payload[rows],
            column=self.column,
            modality=self.modality,
            kind=self.kind,
            target=self.target[rows],
            classes=self.classes,
            weight=None if self.weight is None else self.weight[rows],
            folds=self.folds[rows],
            embeddings={name: values[rows] for name, values in self.embeddings.items()},
            backbones=self.backbones,
            grouped=self.grouped,
        )
