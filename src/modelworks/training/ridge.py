"""Ridge regression of many targets on one set of embeddings: one factorisation, whatever labels are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SMALL = 200_000
"""Rows times columns up to which every penalty is tried by exact leave-one-out."""
_STEPS = 30
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Factor:
    """Centred samples as ``left * sqrt(values) @ right.T``.

    Attributes:
        mean: ``[d]``.
        left: ``[rows, rank]``.
        values: Eigenvalues ``[rank]`` of the scatter matrix.
        right: ``[d, rank]``.
    """

    mean: Doubles
    left: Floats
    values: Doubles
    right: Doubles

    @property
    def scale(self) -> float:
        """Mean eigenvalue: what penalties are relative to."""
        return float(self.values.mean()) if len(self.values) else 1.0


@dataclass(frozen=True)
class Ridge:
    """Fitted columns.

    Attributes:
        weights: ``[d, columns]``.
        bias: ``[columns]``.
        penalties: Chosen for each column.
        left_out: Leave-one-out predictions ``[rows, columns]``; where a label is missing, the plain prediction.
    """

    weights: Doubles
    bias: Doubles
    penalties: Doubles
    left_out: Floats


def factorise(rows: Floats) -> Factor:
    """Take the centred samples apart by an eigendecomposition of the smaller of covariance and Gram matrix."""
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows - mean.astype(np.float32)
    if len(rows) >= rows.shape[1]:
        values, right = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        keep = values > max(values[-1], 1e-30) * 1e-7
        values, right = values[keep], right[:, keep]
        left = centred @ (right / np.sqrt(values)).astype(np.float32)
    else:
        values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
        keep = values > max(values[-1], 1e-30) * 1e-7
        values, vectors = values[keep], vectors[:, keep]
        right = (centred.T @ (vectors / np.sqrt(values)).astype(np.float32)).astype(np.float64)
        left = vectors.astype(np.float32)
    return Factor(mean=mean, left=left, values=values, right=right)


def fit_complete(
    factor: Factor, targets: Floats, blocks: Sequence[slice], penalties: Sequence[float]
) -> Ridge:
    """Fit columns that are labelled on every row.

    On small problems every penalty is tried by exact leave-one-out. On large ones generalised cross-validation, which
    needs no pass over the rows, chooses; the leave-one-out predictions are exact there too.

    Args:
        factor: Of the samples.
        targets: ``[rows, columns]``.
        blocks: Columns that share a penalty.
        penalties: To choose from, relative to ``factor.scale``.

    Source: Allen (1974), PRESS; Golub, Heath & Wahba (1979), Generalized cross-validation; Rifkin & Lippert (2007).
    """
    mean = targets.mean(axis=0, dtype=np.float64)
    # Columns lie one after the other: every step but the products is along them.
    centred = np.subtract(targets.T, mean[:, None], dtype=np.float32)
    projected = factor.left.T @ centred.T
    shrinks = _shrinks(factor, penalties)
    order = (
        np.tile(np.arange(len(penalties)), (len(blocks), 1))
        if targets.size <= SMALL
        else _by_cross_validation(factor, centred, projected, shrinks, blocks)[:, :1]
    )
    found = np.unique(order)
    spared = np.zeros((len(penalties), len(targets)), np.float32)
    spared[found] = 1 - (shrinks[:, found].T @ (factor.left**2).T + np.float32(1.0 / len(targets)))
    best = np.full(len(blocks), np.inf)
    chosen = np.zeros(targets.shape[1], np.int64)
    residuals = np.empty_like(centred)
    for number in found:
        tried = np.flatnonzero((order == number).any(axis=1)).tolist()
        columns = np.concatenate([np.arange(blocks[index].start, blocks[index].stop) for index in tried])
        part = projected[:, columns] * shrinks[:, number, None]
        residual = (centred[columns] - part.T @ factor.left.T) / spared[number]
        errors = np.einsum("ij,ij->i", residual, residual) / len(targets)
        start = 0
        for index in tried:
            width = blocks[index].stop - blocks[index].start
            error = float(errors[start : start + width].mean()) if width > 1 else float(errors[start])
            if error < best[index]:
                best[index] = error
                chosen[blocks[index]] = number
                residuals[blocks[index]] = residual[start : start + width]
            start += width
    penalty = np.array(penalties)[chosen]
    roots = np.sqrt(factor.values)[:, None] / (factor.values[:, None] + penalty[None, :] * factor.scale)
    solved = factor.right @ (projected * roots)
    return Ridge(solved, mean - factor.mean @ solved, penalty, (targets.T - residuals).T)


def folds_out(factor: Factor, targets: Floats, penalty: float, folds: npt.NDArray[np.integer]) -> Floats:
    """Return predictions of every row by the fit without the rows of its fold; exact, without refitting.

    The fit is a smoother ``H`` (the intercept included), and the residual of a fold without its own rows is
    ``(I - H[fold, fold])^-1`` times its residual.

    Args:
        factor: Of the rows.
        targets: ``[rows, columns]``, labelled everywhere.
        penalty: Relative to ``factor.scale``.
        folds: ``[rows]``.

    Source: Cook & Weisberg (1982), Residuals and influence in regression, on deleting groups of cases.
    """
    shrink = factor.values / (factor.values + penalty * factor.scale)
    left, values = factor.left.astype(np.float64), targets.astype(np.float64)
    mean = values.mean(axis=0)
    residual = values - mean - left @ (shrink[:, None] * (left.T @ (values - mean)))
    found = values.copy()
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        hat = (left[rows] * shrink) @ left[rows].T + 1.0 / len(values)
        inverse = np.linalg.solve(np.eye(len(rows)) * (1 + 1e-9) - hat, residual[rows])
        found[rows] -= inverse
    return found.astype(np.float32)


def _shrinks(factor: Factor, penalties: Sequence[float]) -> Floats:
    values = factor.values[:, None]
    return (values / (values + np.array(penalties) * factor.scale)).astype(np.float32)


def _by_cross_validation(
    factor: Factor, centred: Floats, projected: Floats, shrinks: Floats, blocks: Sequence[slice]
) -> npt.NDArray[np.int64]:
    """Return the penalties of every block, the one of least generalised cross-validation error first.

    ``centred`` is ``[columns, rows]``.
    """
    rows = centred.shape[1]
    total = np.einsum("ij,ij->i", centred, centred).astype(np.float64)
    power = projected.astype(np.float64) ** 2
    kept = 2 * shrinks - shrinks**2
    errors = total[None, :] - kept.T @ power
    freedom = 1.0 - (shrinks.sum(axis=0) + 1.0) / rows
    errors /= np.maximum(freedom, 1e-6)[:, None] ** 2
    starts = np.array([block.start for block in blocks])
    sizes = np.array([block.stop - block.start for block in blocks])
    means = (np.add.reduceat(errors, starts, axis=1) / sizes).T
    return np.argsort(means, axis=1, kind="stable")


def fit_masked(
    factor: Factor, targets: Floats, known: Mask, blocks: Sequence[slice], penalties: Sequence[float]
) -> Ridge:
    """Fit columns of which each lacks labels of its own, all on the one factorisation.

    The weights solve each column's own problem, by conjugate gradients that start from and are preconditioned with the
    complete problem scaled to the share of rows that are labelled. The penalty is chosen, and the leave-one-out
    predictions are formed, with the leverages of that scaled problem: exact where no label is missing, close where
    they are missing at random.

    Args:
        factor: Of all samples.
        targets: ``[rows, columns]``; what a missing label holds does not matter.
        known: ``[rows, columns]``.
        blocks: Columns that share a penalty (and labelled rows).
        penalties: To choose from, relative to ``factor.scale``.

    Source: Hestenes & Stiefel (1952), Methods of conjugate gradients for solving linear systems.
    """
    mask = known.astype(np.float32)
    count = np.maximum(mask.sum(axis=0), 1)
    share = (count / len(targets)).astype(np.float64)
    mean = (targets * mask).sum(axis=0) / count
    centred = (targets - mean) * mask
    roots = np.append(np.sqrt(factor.values), 1.0).astype(np.float32)
    design = np.hstack([factor.left, np.ones((len(targets), 1), np.float32)]) * roots
    right_side = design.T @ centred
    squares = factor.left**2
    best = np.full(targets.shape[1], np.inf)
    chosen = np.zeros(targets.shape[1])
    leverage = np.zeros_like(targets)
    for penalty in penalties:
        ridge = penalty * factor.scale * share
        inverse = 1.0 / _diagonal(factor, share, ridge, len(targets))
        fitted = design @ (inverse.astype(np.float32) * right_side)
        shrink = (factor.values[:, None] * inverse[:-1]).astype(np.float32)
        lever = np.minimum(squares @ shrink + (1.0 / count).astype(np.float32), 0.999)
        residual = (centred - fitted * mask) / (1.0 - lever)
        error = _over_blocks(np.einsum("ij,ij,ij->j", residual, residual, mask) / count, blocks)
        better = error < best
        best[better], chosen[better], leverage[:, better] = error[better], penalty, lever[:, better]
    ridge = chosen * factor.scale * share
    solved = _conjugate(
        design, mask, right_side, np.append(np.ones(len(factor.values)), 0.0)[:, None] * ridge,
        _diagonal(factor, share, ridge, len(targets)),
    )  # fmt: skip
    fitted = design @ solved
    left_out = np.where(
        known, targets - (centred - fitted * mask) / (1.0 - leverage), fitted + mean.astype(np.float32)
    ).astype(np.float32)
    weights = factor.right @ solved[:-1].astype(np.float64)
    bias = mean + solved[-1] - factor.mean @ weights
    return Ridge(weights, bias, chosen, left_out)


def _over_blocks(errors: Floats, blocks: Sequence[slice]) -> Doubles:
    """Return the mean over its block for every column."""
    sizes = np.array([block.stop - block.start for block in blocks])
    starts = np.array([block.start for block in blocks])
    return np.repeat(np.add.reduceat(errors.astype(np.float64), starts) / sizes, sizes)


def _diagonal(factor: Factor, share: Doubles, ridge: Doubles, rows: int) -> Doubles:
    """Return the diagonal of the scaled complete problem ``[rank + 1, columns]``; the last row is the intercept's."""
    return np.vstack([factor.values[:, None] * share + ridge, rows * share[None, :]])


def _conjugate(design: Floats, mask: Floats, right_side: Floats, ridge: Doubles, diagonal: Doubles) -> Floats:
    """Solve ``(design' mask design + ridge) x = right_side`` for every column."""
    penalty, inverse = ridge.astype(np.float32), (1.0 / diagonal).astype(np.float32)
    x = inverse * right_side
    residual = right_side - (design.T @ (mask * (design @ x)) + penalty * x)
    aim = _TOLERANCE**2 * np.einsum("ij,ij->j", right_side * inverse, right_side)
    z = inverse * residual
    direction, power = z, np.einsum("ij,ij->j", residual, z)
    for _ in range(_STEPS):
        if (power <= aim).all():
            break
        turned = design.T @ (mask * (design @ direction)) + penalty * direction
        step = power / np.maximum(np.einsum("ij,ij->j", direction, turned), 1e-30)
        x = x + step * direction
        residual = residual - step * turned
        z = inverse * residual
        new = np.einsum("ij,ij->j", residual, z)
        direction = z + new / np.maximum(power, 1e-30) * direction
        power = new
    return np.asarray(x, np.float32)
