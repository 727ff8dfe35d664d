"""What a fitted head computes from embeddings: a linear map, votes of neighbours, or a layer of units."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from modelworks.training.heads.task import Doubles, Floats

TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class LinearForm:
    """``scores = x @ weights + bias``.

    Attributes:
        weights: ``[d, outputs]``.
        bias: ``[outputs]``.
        centre: Where given, ``x`` is first moved by it and scaled to unit length.
    """

    weights: Floats
    bias: Floats
    centre: Floats | None = None

    def scores(self, embeddings: Floats) -> Floats:
        """Return scores ``[n, outputs]``."""
        x = embeddings if self.centre is None else directions(embeddings, self.centre)
        return np.asarray(x @ self.weights + self.bias)

    def scaled(self, slope: Doubles, shift: Doubles) -> LinearForm:
        """Return the form whose scores are ``slope * scores + shift``."""
        return replace(
            self,
            weights=(self.weights * slope).astype(np.float32),
            bias=(self.bias * slope + shift).astype(np.float32),
        )


@dataclass(frozen=True, kw_only=True)
class NeighbourForm:
    """The logarithm of the smoothed share of each class among the nearest remembered samples; or their mean value.

    Attributes:
        centre: ``[d]``: samples are moved by it and scaled to unit length before they are compared.
        memory: Remembered samples, moved and scaled ``[m, d]``.
        values: ``[m, classes]`` of 0 and 1, or ``[m, 1]`` numbers.
        prior: Share of each class, which counts as one neighbour; empty for numbers.
        count: Neighbours that are asked.
        slope: ``[outputs]``.
        shift: ``[outputs]``.
    """

    centre: Floats
    memory: Floats
    values: Floats
    prior: Floats
    count: int
    slope: Floats
    shift: Floats

    def scores(self, embeddings: Floats) -> Floats:
        """Return scores ``[n, outputs]``; two classes have one output."""
        near = directions(embeddings, self.centre) @ self.memory.T
        chosen = np.argsort(-near, axis=1, kind="stable")[:, : self.count]
        mean = self.values[chosen].mean(axis=1)
        return np.asarray(vote_scores(mean, self.prior, self.count) * self.slope + self.shift, np.float32)

    def scaled(self, slope: Doubles, shift: Doubles) -> NeighbourForm:
        """Return the form whose scores are ``slope * scores + shift``."""
        slope, shift = self.slope * slope, self.shift * slope + shift
        return replace(self, slope=slope.astype(np.float32), shift=shift.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class NetworkForm:
    """``scores = relu(x @ first + first_bias) @ second + second_bias``.

    Attributes:
        first: ``[d, units]``.
        first_bias: ``[units]``.
        second: ``[units, outputs]``.
        second_bias: ``[outputs]``.
    """

    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats

    def scores(self, embeddings: Floats) -> Floats:
        """Return scores ``[n, outputs]``."""
        units = np.maximum(embeddings @ self.first + self.first_bias, 0)
        return np.asarray(units @ self.second + self.second_bias)

    def scaled(self, slope: Doubles, shift: Doubles) -> NetworkForm:
        """Return the form whose scores are ``slope * scores + shift``."""
        return replace(
            self,
            second=(self.second * slope).astype(np.float32),
            second_bias=(self.second_bias * slope + shift).astype(np.float32),
        )


Form = LinearForm | NeighbourForm | NetworkForm


def directions(embeddings: Floats, centre: Floats) -> Floats:
    """Return embeddings moved by ``centre`` and scaled to unit length."""
    moved = embeddings - centre
    length = np.sqrt(np.einsum("ij,ij->i", moved, moved))
    return np.asarray(moved / np.maximum(length, TINY)[:, None], np.float32)


def vote_scores(mean: npt.NDArray[np.floating], prior: npt.NDArray[np.floating], count: int) -> Doubles:
    """Return scores from the mean vote of ``count`` neighbours ``[n, classes]``; numbers stay as they are."""
    if not len(prior):
        return np.asarray(mean, np.float64)
    logs = np.log((mean * count + prior) / (count + 1.0))
    return np.asarray(logs[:, 1:] - logs[:, :1] if len(prior) == 2 else logs)
