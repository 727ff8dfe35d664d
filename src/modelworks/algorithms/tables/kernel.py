"""A kernel machine whose metric is learned, as a portfolio member: strong where trees are not (smooth tables).

Nyström features (Williams and Seeger 2001) of a Gaussian kernel, fitted as a penalised generalised linear
model. The metric weights each input by the average squared gradient of a first fit (Radhakrishnan et al. 2024,
"Mechanism for feature learning in neural networks and backpropagation-free machine learning models", recursive
feature machines with a diagonal metric).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import DOUBLE, FLOAT, Graph
from modelworks.algorithms.tables.views import SCALED
from modelworks.core.budget import Budget
from modelworks.training.glm import LinearFit, best_on_path, fit_glm
from modelworks.training.member import FoldFit
from modelworks.training.problem import Floats, Problem, Rows
from modelworks.training.triangular import inverse_of_lower

Singles = npt.NDArray[np.float32]

_JITTER = 1e-3
_METRIC_ROWS = 1500
_METRIC_LANDMARKS = 300
_METRIC_PENALTY = 0.3
_SCALE_ROWS = 300


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A Gaussian kernel to fixed landmarks under a diagonal metric.

    Attributes:
        root: float32 ``[columns]``: square root of the metric divided by the bandwidth.
        landmarks: float32 ``[landmarks, columns]``, already multiplied by ``root``.
        whitening: float32 ``[landmarks, landmarks]``: turns kernel values into Nyström features.
    """

    root: Singles
    landmarks: Singles
    whitening: Singles

    def values(self, inputs: Singles) -> Singles:
        """Return the kernel values ``[rows, landmarks]``."""
        scaled = inputs * self.root
        distance = (scaled @ self.landmarks.T) * np.float32(-2)
        distance += np.square(scaled).sum(axis=1)[:, None]
        distance += np.square(self.landmarks).sum(axis=1)[None, :]
        np.maximum(distance, 0, out=distance)
        np.negative(distance, out=distance)
        return np.exp(distance, out=distance)

    def features(self, inputs: Singles) -> Singles:
        """Return the Nyström features with a constant column, ``[rows, landmarks + 1]``."""
        matrix = np.ones((len(inputs), len(self.landmarks) + 1), dtype=np.float32)
        matrix[:, :-1] = self.values(inputs) @ self.whitening
        return matrix


@dataclass(frozen=True, kw_only=True)
class KernelFit:
    """A kernel and, per landmark, its weight in every score; the last row of ``weights`` is the constant.

    Scores are computed in float64, here and in the graph: weights of near landmarks are large and cancel.
    """

    kernel: Kernel
    weights: Floats

    def scores(self, inputs: Singles) -> Floats:
        """Return ``[rows, outputs]``."""
        landmarks = self.kernel.landmarks.astype(np.float64)
        scaled = inputs.astype(np.float64) * self.kernel.root.astype(np.float64)
        distance = np.square(scaled).sum(1)[:, None] + np.square(landmarks).sum(1) - 2 * scaled @ landmarks.T
        return np.asarray(np.exp(-np.maximum(distance, 0)) @ self.weights[:-1] + self.weights[-1])


def _kernel(inputs: Singles, chosen: Rows, metric: Singles, bandwidth: float) -> Kernel:
    """Build a kernel on the rows ``chosen``; ``bandwidth`` is in median distances."""
    root = np.sqrt(metric)
    sample = inputs[chosen[:: max(1, len(chosen) // _SCALE_ROWS)]] * root
    distance = np.square(sample).sum(1)[:, None] + np.square(sample).sum(1)[None, :] - 2.0 * sample @ sample.T
    upper = distance[np.triu_indices(len(sample), 1)]
    median = float(np.sqrt(max(np.median(upper), 1e-12))) if len(upper) else 1.0
    root = (root / np.float32(bandwidth * max(median, 1e-6))).astype(np.float32)
    landmarks = np.ascontiguousarray(inputs[chosen] * root)
    exact = landmarks.astype(np.float64)
    squared = np.square(exact).sum(1)
    gram = np.exp(-np.maximum(squared[:, None] + squared[None, :] - 2.0 * exact @ exact.T, 0.0))
    gram[np.diag_indices(len(gram))] += _JITTER
    whitening = inverse_of_lower(np.linalg.cholesky(gram)).T
    return Kernel(root=root, landmarks=landmarks, whitening=np.ascontiguousarray(whitening, dtype=np.float32))


@dataclass
class KernelMachine:
    """Gaussian-kernel ridge, logistic or softmax regression on landmarks.

    Args:
        name: Name in the portfolio.
        problem: What to learn.
        features: float32 ``[rows, columns]``, scaled inputs without gaps.
        seed: Seed of the choice of landmarks.
        landmarks: Most landmarks.
        bandwidth: Kernel width in median distances between rows.
        penalties: Ridge penalties, strongest first; the search on the first fold begins in the middle.
    """

    name: str
    problem: Problem
    features: Singles
    seed: int
    landmarks: int = 600
    bandwidth: float = 1.0
    penalties: Sequence[float] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    view: str = SCALED
    _penalty: float | None = field(default=None, init=False)

    def fit_fold(self, fold: int, budget: Budget) -> FoldFit:
        """Learn metric and weights on the other folds."""
        train, valid = self.problem.parts(fold)
        kernel = self._learned_kernel(train, budget)
        matrix = kernel.features(self.features[train])
        gram = self._gram(matrix, train)
        held_out = kernel.features(self.features[valid])
        fits: dict[float, LinearFit] = {}

        def loss_at(index: int) -> float:
            penalty = self.penalties[index]
            start = next(reversed(fits.values()), None)
            fits[penalty] = fit_glm(
                matrix, self.problem, train, gram=gram, penalty=penalty, start=start, budget=budget
            )
            return self.problem.loss(_linear(held_out, fits[penalty]), valid)

        if self._penalty is None:
            chosen = best_on_path(len(self.penalties), len(self.penalties) // 2, loss_at)
            self._penalty = self.penalties[chosen]
        else:
            loss_at(list(self.penalties).index(self._penalty))
        fit = fits[self._penalty]
        part = KernelFit(kernel=kernel, weights=_on_landmarks(kernel, fit))
        return FoldFit(scores=_linear(held_out, fit), part=part)

    def _gram(self, matrix: Singles, rows: Rows) -> Floats:
        if self.problem.weight is not None:
            matrix = matrix * np.sqrt(self.problem.row_weight(rows)).astype(np.float32)[:, None]
        return np.asarray((matrix.T @ matrix).astype(np.float64))

    def _choose(self, rows: Rows, count: int) -> Rows:
        generator = np.random.default_rng(self.seed)
        return np.sort(generator.permutation(rows)[:count])

    def _learned_kernel(self, rows: Rows, budget: Budget) -> Kernel:
        """Fit least squares on a sample under the plain metric; weigh inputs by its squared gradients."""
        budget.check()
        sample = self._choose(rows, _METRIC_ROWS)
        flat = np.ones(self.features.shape[1], dtype=np.float32)
        first = _kernel(self.features, self._choose(sample, _METRIC_LANDMARKS), flat, self.bandwidth)
        matrix = first.features(self.features[sample])
        gram = self._gram(matrix, sample)
        gram[np.diag_indices(len(gram))] += _METRIC_PENALTY
        dense = self.problem.dense_target[sample]
        centred = (dense - dense.mean(axis=0)) * self.problem.row_weight(sample)[:, None]
        fit = np.linalg.solve(gram, (matrix.T @ centred.astype(np.float32)).astype(np.float64))
        weights = (first.whitening @ fit[:-1].astype(np.float32)).astype(np.float32)
        values = first.values(self.features[sample])
        scaled = self.features[sample] * first.root
        squared = np.zeros(len(flat))
        for output in range(weights.shape[1]):
            pull = values * weights[:, output]
            gradient = pull @ first.landmarks - pull.sum(axis=1, keepdims=True) * scaled
            squared += np.square(gradient * first.root).mean(axis=0)
        metric = np.sqrt(squared / max(float(squared.max()), 1e-30) + 1e-4)
        metric = (metric / metric.mean()).astype(np.float32)
        return _kernel(self.features, self._choose(rows, self.landmarks), metric, self.bandwidth)

    def settle(self, fits: dict[int, FoldFit], budget: Budget) -> dict[int, FoldFit]:
        """Nothing is left to agree on: the penalty was fixed by the first fold."""
        return fits

    def finish(self, fits: dict[int, FoldFit], budget: Budget) -> KernelFit:
        """Fit once more, on all rows."""
        assert self._penalty is not None
        rows = np.arange(self.problem.rows)
        kernel = self._learned_kernel(rows, budget)
        matrix = kernel.features(self.features)
        gram = self._gram(matrix, rows)
        fit = fit_glm(matrix, self.problem, rows, gram=gram, penalty=self._penalty, budget=budget)
        return KernelFit(kernel=kernel, weights=_on_landmarks(kernel, fit))

    def predict(self, model: KernelFit, features: Singles) -> Floats:
        """Return scores of new rows."""
        return model.scores(features)

    def write(self, graph: Graph, model: KernelFit, features: str, weight: float) -> str:
        """Write the weighted scores; returns ``[rows, outputs]``."""
        landmarks = model.kernel.landmarks
        double = graph.cast(features, DOUBLE)
        root = graph.constant(model.kernel.root[None, :].astype(np.float64))
        scaled = graph.op("Mul", double, root)
        own = graph.op("ReduceSumSquare", scaled, graph.constant([1], np.int64), keepdims=1)
        squares = np.square(landmarks.astype(np.float64)).sum(1)
        cross = graph.op(
            "Gemm",
            scaled,
            graph.cast(graph.constant(-2.0 * landmarks, np.float32), DOUBLE),
            graph.constant(squares),
            transB=1,
        )
        distance = graph.op("Relu", graph.op("Add", cross, own))
        values = graph.op("Exp", graph.op("Neg", distance))
        weights = model.weights * weight
        return graph.cast(
            graph.op("Gemm", values, graph.constant(weights[:-1]), graph.constant(weights[-1])), FLOAT
        )


def _linear(matrix: Singles, fit: LinearFit) -> Floats:
    return np.asarray((matrix @ fit.coefficients.astype(np.float32)).astype(np.float64))


def _on_landmarks(kernel: Kernel, fit: LinearFit) -> Floats:
    """Move coefficients from Nyström features to kernel values."""
    weights = kernel.whitening.astype(np.float64) @ fit.coefficients[:-1]
    return np.concatenate([weights, fit.coefficients[-1:]])
