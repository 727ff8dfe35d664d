"""The embeddings that all tasks share, and what is computed from them once for all families."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from modelworks.training.heads.forms import LinearForm, directions
from modelworks.training.heads.task import Doubles, Floats, Rows
from modelworks.training.ridge import Factor, factorise


class Space:
    """Embeddings ``[n, d]`` with their principal axes.

    Args:
        embeddings: ``[n, d]``.
    """

    def __init__(self, embeddings: Floats) -> None:
        self.embeddings = embeddings

    @cached_property
    def factor(self) -> Factor:
        """The centred samples taken apart."""
        return factorise(self.embeddings)

    @cached_property
    def axes(self) -> Floats:
        """Samples along their principal axes ``[n, rank]``, scaled so that an axis has variance 1 in the mean."""
        return np.asarray(self.factor.left * np.sqrt(self.factor.values) / self._unit, np.float32)

    @cached_property
    def variance(self) -> Doubles:
        """Variance of every axis ``[rank]``."""
        return np.asarray(self.factor.values / max(self.factor.scale, 1e-30))

    @property
    def _unit(self) -> float:
        scale: float = float(self.factor.scale) / len(self.embeddings)
        return max(float(np.sqrt(scale)), 1e-15)

    @cached_property
    def unit(self) -> Floats:
        """Centred samples of unit length ``[n, d]``."""
        return directions(self.embeddings, self.centre)

    @cached_property
    def centre(self) -> Floats:
        """Mean embedding ``[d]``."""
        return np.asarray(self.embeddings.mean(axis=0, dtype=np.float64), np.float32)

    def projection(self, weights: Doubles | Floats) -> Doubles:
        """Return weights over embeddings ``[d, k]`` for weights over axes ``[rank, k]``."""
        return np.asarray(self.factor.right @ weights / self._unit)

    def linear(self, weights: Doubles | Floats, bias: Doubles | Floats) -> LinearForm:
        """Return the form over embeddings that equals ``axes @ weights + bias``."""
        found = self.projection(weights)
        return LinearForm(
            weights=found.astype(np.float32), bias=(bias - self.factor.mean @ found).astype(np.float32)
        )

    def take(self, rows: Rows) -> Space:
        """Return some samples as a space of their own."""
        return Space(self.embeddings[rows])
