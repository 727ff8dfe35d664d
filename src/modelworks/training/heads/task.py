"""What a head learns: the labels of one task over samples that many tasks share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import DataError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MISSING = 255
FOLDED = 1000
"""Labelled samples up to which every fold is held out in turn; above it the first fold alone is."""


@dataclass(frozen=True, kw_only=True)
class HeadTask:
    """One task on shared embeddings.

    Attributes:
        name: Name of the task.
        labels: ``int64 [n]`` class codes with -1 for a sample that is not labelled, or ``float64 [n]`` targets
            with NaN for one that is not.
        classes: Number of classes; 0 for regression.
        folds: ``int8 [n]``: samples of one fold are held out together (copies and groups never part); ``None`` where
            only leave-one-out is wanted.
        grouped: Whether many samples hang together with others of their fold (windows of one machine), so that
            leaving out one sample says nothing.
    """

    name: str
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    classes: int
    folds: npt.NDArray[np.int8] | None = None
    grouped: bool = False

    @cached_property
    def labelled(self) -> Mask:
        """Which samples carry a label for this task."""
        if self.classes:
            return np.asarray(self.labels >= 0)
        return np.isfinite(self.labels)

    @cached_property
    def known(self) -> int:
        """Number of labelled samples."""
        return int(np.count_nonzero(self.labelled))

    @property
    def outputs(self) -> int:
        """Columns of its scores: one per class of several, else one."""
        return self.classes if self.classes > 2 else 1

    def truth(self, rows: Rows) -> Doubles:
        """Return what scores aim at ``[len(rows), outputs]``: 0 or 1 per class, or the value."""
        labels = self.labels[rows]
        if self.classes > 2:
            return np.asarray(labels[:, None] == np.arange(self.classes), np.float64)
        return np.asarray(labels[:, None], np.float64)

    def shares(self) -> Doubles:
        """Return the share of each class, smoothed so that none is zero."""
        known = np.asarray(self.labels[self.labelled], np.int64)
        counts = np.bincount(known, minlength=self.classes) + 0.5
        return np.asarray(counts / counts.sum())

    @cached_property
    def parts(self) -> list[tuple[Rows, Rows]]:
        """Labelled rows to learn from and to hold out, fold by fold; with many labels one fold."""
        assert self.folds is not None
        known = np.flatnonzero(self.labelled)
        found = np.unique(self.folds[known])
        if len(known) > FOLDED:
            found = found[:1]
        inside = [self.folds[known] == fold for fold in found]
        return [(known[~held], known[held]) for held in inside if not held.all()]


def check_task(task: HeadTask, rows: int) -> None:
    """Check that a task can be learned.

    Raises:
        DataError: Fewer than two labelled samples or only one class.
    """
    if len(task.labels) != rows:
        raise DataError(
            f"Task '{task.name}' has {len(task.labels)} labels for {rows} embeddings.", code="MW1181"
        )
    present = task.labels if task.known == rows else task.labels[task.labelled]
    several = len(present) > 0 and present.min() < present.max()
    if len(present) < 2 or (task.classes and not several):
        raise DataError(
            f"Task '{task.name}' has {len(present)} labelled samples of {len(np.unique(present))} class(es).",
            code="MW1182",
            hint="label at least two samples of each of two classes",
        )
