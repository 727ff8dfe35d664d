"""Estimator ``text.linear``: a logistic model on every frequent word and character n-gram, nothing projected away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.samples.head import write_answers
from modelworks.algorithms.text.features import fit_view
from modelworks.core.backbone import EMBEDDING
from modelworks.core.budget import Budget
from modelworks.core.errors import TaskError
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.signature import CHARACTERS, Signature, Tensor
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.training.calibration import log_sum_exp, platt_scaling, vector_scaling
from modelworks.training.heads.task import MISSING

Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TextLinear:
    """Configuration.

    Attributes:
        words: Words and pairs of words, at most.
        runs: Runs of characters, at most.
        longest: Characters in the longest run.
        strengths: Inverse penalties to choose from on a held-out fold.
        search_rows: Rows on which the penalty is chosen, at most.
    """

    words: int = 20_000
    runs: int = 20_000
    longest: int = 5
    strengths: tuple[float, ...] = (1.0, 4.0, 16.0)
    search_rows: int = 12_000

    @property
    def card(self) -> Card:
        """What the recipe is."""
        return Card(
            name="text.linear",
            version=1,
            kinds=frozenset({TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL}),
            summary="Logistic regression on weighted words, pairs of words and character n-grams, all of them.",
            source="Salton & Buckley (1988); Fan et al. (2008), LIBLINEAR; Platt (1999)",
            min_rows=20,
        )

    def fit(
        self, train: TrainingSamples, valid: TrainingSamples | None, budget: Budget, seed: int
    ) -> FittedModel:
        """Fit one task on the texts of ``train.payload``.

        Args:
            train: Labels may be missing (-1, or 255 for one of several).
            valid: Not used: the penalty is chosen on the first fold of ``train``.
            budget: Checked between fits.
            seed: Not used: nothing here is left to chance.

        Raises:
            TaskError: Fewer than two classes have labels.
            DataError: No n-gram occurs in two texts.
        """
        from scipy.sparse import hstack

        texts = [str(text or "") for text in train.payload]
        views, parts = [], []
        for words, features in ((True, self.words), (False, self.runs)):
            view, matrix = fit_view(texts, words=words, features=features, longest=self.longest)
            views.append(view)
            parts.append(matrix)
        budget.check()
        rows = hstack(parts).tocsr()
        fits = [self._column(rows, codes, count, train.folds, budget) for codes, count in _questions(train)]
        weights = np.concatenate([fit.weights for fit in fits], axis=1)
        bias = np.concatenate([fit.bias for fit in fits])
        graph = Graph()
        graph.op("Concat", *(view.features(graph) for view in views), axis=1, out=EMBEDDING)
        scores = graph.op("Gemm", EMBEDDING, graph.constant(weights), graph.constant(bias))
        outputs = write_answers(graph, scores, train.kind, train.classes)
        signature = Signature(
            inputs=(Tensor(name=CHARACTERS, datatype="INT64", shape=(-1, -1), columns=(train.column,)),),
            outputs=outputs,
            classes=train.classes,
        )
        loss = float(np.mean([fit.loss for fit in fits]))
        return FittedModel(
            onnx=graph.finish(signature),
            signature=signature,
            diagnostics={
                "members": [{"name": "linear", "oof_loss": loss, "weight": 1.0, "kept": True}],
                "oof_loss": loss,
                "chosen": f"linear model on {rows.shape[1]} words and n-grams: held-out log loss {loss:.4g}",
                "strengths": [fit.strength for fit in fits][:20],
            },
        )

    def _column(self, rows: Any, codes: Codes, classes: int, folds: Any, budget: Budget) -> _Fit:
        """Fit one question, penalty and calibration from its first fold."""
        known = np.flatnonzero(codes >= 0)
        held, rest = known[folds[known] == 0], known[folds[known] != 0]
        if len(held) < 2 or not _same(codes, held, rest):
            held = rest = known
        rest, held = _spread(rest, self.search_rows), _spread(held, self.search_rows)
        best: tuple[float, float, Doubles, Doubles] | None = None
        for strength in self.strengths if held is not rest else self.strengths[:1]:
            budget.check()
            weights, bias = _logistic(rows[rest], codes[rest], classes, strength)
            scores = rows[held] @ weights + bias
            slope, shift = _scaling(scores, codes[held], classes)
            loss = _log_loss(scores * slope + shift, codes[held], classes)
            if best is None or loss < best[0]:
                best = (loss, strength, slope, shift)
        assert best is not None
        loss, strength, slope, shift = best
        budget.check()
        weights, bias = _logistic(rows[known], codes[known], classes, strength)
        return _Fit(
            (weights * slope).astype(np.float32), (bias * slope + shift).astype(np.float32), strength, loss
        )


@dataclass(frozen=True)
class _Fit:
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    strength: float
    loss: float


def _questions(train: TrainingSamples) -> list[tuple[Codes, int]]:
    """Return the codes and class counts that are fitted: one question, or one per label."""
    if train.kind is TaskKind.MULTILABEL:
        found = [
            (np.where(column == MISSING, -1, column.astype(np.int64)), 2)
            for column in np.asarray(train.target).T
        ]
    else:
        found = [(np.asarray(train.target, np.int64), len(train.classes))]
    for codes, _ in found:
        if len(np.unique(codes[codes >= 0])) < 2:
            raise TaskError(
                "A label is the same on every training text.", code="MW1231", hint="label more samples"
            )
    return found


def _same(codes: Codes, held: npt.NDArray[np.int64], rest: npt.NDArray[np.int64]) -> bool:
    """Say whether both parts have two classes, and the training part every one."""
    return len(np.unique(codes[held])) > 1 and set(codes[held]) <= set(codes[rest])


def _spread(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _logistic(rows: Any, codes: Codes, classes: int, strength: float) -> tuple[Doubles, Doubles]:
    """Return weights ``[features, outputs]`` and bias; a class without rows gets no chance."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # Two hundred steps are enough for the answers; what is left shows only in the last digits.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=200).fit(rows, codes)
    if classes == 2:
        return model.coef_.T.astype(np.float64), model.intercept_.astype(np.float64)
    weights, bias = np.zeros((rows.shape[1], classes)), np.full(classes, -20.0)
    if len(model.classes_) == 2:
        low, high = model.classes_
        weights[:, high], bias[high], bias[low] = model.coef_[0], model.intercept_[0], 0.0
        return weights, bias
    weights[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return weights, bias


def _scaling(scores: Doubles, codes: Codes, classes: int) -> tuple[Doubles, Doubles]:
    if classes == 2:
        return platt_scaling(scores[:, 0], codes == 1)
    return vector_scaling(scores, codes)


def _log_loss(logits: Doubles, codes: Codes, classes: int) -> float:
    if classes == 2:
        return float(np.logaddexp(0.0, -np.where(codes == 1, 1.0, -1.0) * logits[:, 0]).mean())
    return float((log_sum_exp(logits) - logits[np.arange(len(codes)), codes]).mean())
