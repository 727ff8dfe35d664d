"""Estimator ``text.linear``: a logistic model on every frequent word and character n-gram, nothing projected away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.samples.head import write_answers
from modelworks.algorithms.text.features import View, fit_view, unspaced_share
from modelworks.core.backbone import EMBEDDING
from modelworks.core.budget import Budget
from modelworks.core.errors import DataError, TaskError
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.signature import CHARACTERS, Signature, Tensor
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.training.calibration import log_sum_exp, platt_scaling, vector_scaling
from modelworks.training.heads.fitted import TRUST
from modelworks.training.heads.task import MISSING

Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

_Way = tuple[tuple[bool, int, int], ...]
"""Views of a text: words or runs, how many at most, and characters in the longest run."""
_PAIRS = 2
"""Characters in the longest run where nothing parts the words."""


@dataclass(frozen=True, kw_only=True)
class TextLinear:
    """Configuration.

    Attributes:
        words: Words and pairs of words, at most.
        runs: Runs of characters, at most.
        longest: Characters in the longest run.
        strengths: Inverse penalties to choose from on a held-out fold.
        search_rows: Rows on which the penalty is chosen, at most.
        unspaced: Share of letters without blanks between words (Chinese, Japanese, Thai) from which single characters
            and pairs of them alone are tried as well, and taken where their held-out loss is lower.
    """

    words: int = 20_000
    runs: int = 20_000
    longest: int = 5
    strengths: tuple[float, ...] = (1.0, 4.0, 16.0)
    search_rows: int = 12_000
    unspaced: float = 0.2

    @property
    def card(self) -> Card:
        """What the recipe is."""
        return Card(
            name="text.linear",
            version=3,
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
        ways: list[_Way] = [((True, self.words, self.longest), (False, self.runs, self.longest))]
        if unspaced_share(texts) >= self.unspaced:
            ways.append(((False, self.runs, _PAIRS),))
        best: tuple[float, list[View], Any, list[_Choice]] | None = None
        for way in ways:
            views, parts = _read(texts, way)
            budget.check()
            rows = hstack(parts).tocsr()
            choices = [
                self._choose(rows, codes, count, train.folds, budget) for codes, count in _questions(train)
            ]
            loss = float(np.mean([choice.loss for choice in choices]))
            if best is None or loss < best[0]:
                best = (loss, views, rows, choices)
        assert best is not None
        loss, views, rows, choices = best
        fits = [
            _refit(rows, codes, count, choice, budget)
            for (codes, count), choice in zip(_questions(train), choices, strict=True)
        ]
        weights = np.concatenate([fit[0] for fit in fits], axis=1)
        bias = np.concatenate([fit[1] for fit in fits])
        graph = Graph()
        graph.op("Concat", *(view.features(graph) for view in views), axis=1, out=EMBEDDING)
        scores = graph.op("Gemm", EMBEDDING, graph.constant(weights), graph.constant(bias))
        outputs = write_answers(graph, scores, train.kind, train.classes)
        signature = Signature(
            inputs=(Tensor(name=CHARACTERS, datatype="INT64", shape=(-1, -1), columns=(train.column,)),),
            outputs=outputs,
            classes=train.classes,
        )
        pairs = not views[-1].words and max(len(ngram) for ngram in views[-1].encoder.ngrams) <= _PAIRS
        read = "characters and pairs of them" if pairs else "words and n-grams"
        return FittedModel(
            onnx=graph.finish(signature),
            signature=signature,
            diagnostics={
                "members": [{"name": "linear", "oof_loss": loss, "weight": 1.0, "kept": True}],
                "oof_loss": loss,
                "chosen": f"linear model on {rows.shape[1]} {read}: held-out log loss {loss:.4g}",
                "strengths": [choice.strength for choice in choices][:20],
            },
        )

    def _choose(self, rows: Any, codes: Codes, classes: int, folds: Any, budget: Budget) -> _Choice:
        """Choose penalty and calibration of one question on its first fold."""
        known = np.flatnonzero(codes >= 0)
        held, rest = known[folds[known] == 0], known[folds[known] != 0]
        if len(held) < 2 or not _same(codes, held, rest):
            held = rest = known
        rest, held = _spread(rest, self.search_rows), _spread(held, self.search_rows)
        best: _Choice | None = None
        for strength in self.strengths if held is not rest else self.strengths[:1]:
            budget.check()
            weights, bias = _logistic(rows[rest], codes[rest], classes, strength)
            scores = rows[held] @ weights + bias
            slope, shift = _scaling(scores, codes[held], classes)
            loss = _log_loss(scores * slope + shift, codes[held], classes)
            if best is None or loss < best.loss:
                best = _Choice(loss, strength, slope, shift)
        assert best is not None
        return best


@dataclass(frozen=True)
class _Choice:
    loss: float
    strength: float
    slope: Doubles
    shift: Doubles


def _refit(
    rows: Any, codes: Codes, classes: int, choice: _Choice, budget: Budget
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return weights and bias of one question, fitted on all its rows and calibrated as chosen."""
    budget.check()
    known = np.flatnonzero(codes >= 0)
    weights, bias = _logistic(rows[known], codes[known], classes, choice.strength)
    return (
        (weights * choice.slope).astype(np.float32),
        (bias * choice.slope + choice.shift).astype(np.float32),
    )


def _read(texts: list[str], way: _Way) -> tuple[list[View], list[Any]]:
    """Return the views that find something in the texts, and their features."""
    found, none = [], None
    for words, features, longest in way:
        try:
            found.append(fit_view(texts, words=words, features=features, longest=longest))
        except DataError as error:
            none = error
    if none is not None and not found:
        raise none
    return [view for view, _ in found], [matrix for _, matrix in found]


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
    return vector_scaling(scores, codes, TRUST)


def _log_loss(logits: Doubles, codes: Codes, classes: int) -> float:
    if classes == 2:
        return float(np.logaddexp(0.0, -np.where(codes == 1, 1.0, -1.0) * logits[:, 0]).mean())
    return float((log_sum_exp(logits) - logits[np.arange(len(codes)), codes]).mean())
