"""Inverses by blocks equal inverses as a whole, and a Gram matrix that is not quite positive is solved all the same."""

from __future__ import annotations

import numpy as np
import pytest

from modelworks.training.glm import _solver
from modelworks.training.triangular import inverse_of_lower


@pytest.mark.parametrize("size", [1, 47, 48, 49, 97, 203])
def test_the_inverse_by_blocks_is_the_inverse(size: int) -> None:
    generator = np.random.default_rng(size)
    matrix = np.tril(generator.normal(size=(size, size))) / np.sqrt(size)
    matrix[np.diag_indices(size)] = generator.uniform(0.5, 2.0, size)
    inverse = inverse_of_lower(matrix)
    assert np.abs(inverse @ matrix - np.eye(size)).max() < 1e-9
    assert (np.triu(inverse, 1) == 0).all()


@pytest.mark.parametrize("least", [1e-3, -1e-9])
def test_a_curvature_just_below_zero_is_solved_like_any_other(least: float) -> None:
    generator = np.random.default_rng(0)
    vectors, _ = np.linalg.qr(generator.normal(size=(60, 60)))
    values = np.concatenate([[least], np.linspace(1.0, 5.0, 59)])
    curvature = (vectors * values) @ vectors.T
    if least < 0:
        with pytest.raises(np.linalg.LinAlgError):
            np.linalg.cholesky(curvature)
    right = vectors[:, 1:3]
    assert np.abs(_solver(curvature)(right) - right / values[1:3]).max() < 1e-6
