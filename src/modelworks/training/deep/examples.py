"""What a network learns from: inputs, dense targets, which of them are known, and row weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import MissingExtra
from modelworks.core.task import TaskKind
from modelworks.training.problem import Problem

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Loss = Literal["softmax", "sigmoid", "squares"]

_LOSSES: dict[TaskKind, Loss] = {
    TaskKind.MULTICLASS: "softmax",
    TaskKind.BINARY: "sigmoid",
    TaskKind.MULTILABEL: "sigmoid",
    TaskKind.REGRESSION: "squares",
}


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Rows for a network, held in memory.

    Attributes:
        inputs: Image ``uint8 [n, 3, side, side]`` | series ``float32 [n, channels, length]``
            | text ``int32 [n, length]`` | tokens ``int32 [n, 2, length]`` (ids, attention).
        target: ``float32 [n, outputs]``: class shares that sum to one, chances of a yes, or standardised numbers.
        known: ``float32 [n, outputs]``: 0 where a target is missing.
        weight: ``float32 [n]``, mean one.
        loss: ``softmax`` (one of several classes), ``sigmoid`` (each output by itself) or ``squares``.
    """

    inputs: npt.NDArray[Any]
    target: Floats
    known: Floats
    weight: Floats
    loss: Loss

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.target)

    @property
    def outputs(self) -> int:
        """Number of scores a network gives."""
        return int(self.target.shape[1])

    def take(self, rows: Rows) -> Examples:
        """Return some rows as examples of their own."""
        return Examples(
            inputs=self.inputs[rows],
            target=self.target[rows],
            known=self.known[rows],
            weight=self.weight[rows],
            loss=self.loss,
        )

    def with_target(self, target: Floats) -> Examples:
        """Return the same rows with other targets, e.g. those of a teacher."""
        return Examples(
            inputs=self.inputs,
            target=np.asarray(target, np.float32),
            known=self.known,
            weight=self.weight,
            loss=self.loss,
        )

    def save(self, path: Path) -> None:
        """Write the rows as one safetensors file."""
        save_arrays(
            path,
            {"inputs": self.inputs, "target": self.target, "known": self.known, "weight": self.weight},
            {"loss": self.loss},
        )

    @staticmethod
    def load(path: Path) -> Examples:
        """Read what ``save`` wrote."""
        arrays, notes = load_arrays(path)
        loss: Any = notes["loss"]
        return Examples(loss=loss, **arrays)


def examples_of(problem: Problem, inputs: npt.NDArray[Any], *, balanced: bool = False) -> Examples:
    """Return a problem and its inputs as examples.

    Args:
        problem: Target, weights and kind; a regression target is already standardised.
        inputs: One entry per row of the problem.
        balanced: Give every class the same total weight (multiclass and binary), capped at ten times a row.
    """
    weight = problem.row_weight(slice(None)).astype(np.float64)
    if balanced and problem.kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        counts = np.bincount(problem.target, weight, minlength=max(problem.classes, 2))
        share = counts.sum() / np.maximum(counts, 1e-12) / max(1, np.sum(counts > 0))
        weight = weight * np.minimum(share, 10.0)[problem.target]
        weight = weight / weight.mean()
    dense = problem.dense_target
    known = np.ones_like(dense) if problem.known is None else problem.known
    return Examples(
        inputs=inputs,
        target=dense.astype(np.float32),
        known=known.astype(np.float32),
        weight=weight.astype(np.float32),
        loss=_LOSSES[problem.kind],
    )


def save_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]], notes: dict[str, str]) -> None:
    """Write named arrays and texts as one safetensors file.

    Raises:
        MissingExtra: ``safetensors`` is not installed.
    """
    try:
        from safetensors.numpy import save_file
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Writing weights", "torch") from error
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, path, metadata=notes)


def load_arrays(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Read a safetensors file: its arrays and its texts.

    Raises:
        MissingExtra: ``safetensors`` is not installed.
    """
    try:
        from safetensors import safe_open
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Reading weights", "torch") from error
    with safe_open(path, framework="numpy") as stored:
        return {name: stored.get_tensor(name) for name in sorted(stored.keys())}, dict(
            stored.metadata() or {}
        )
