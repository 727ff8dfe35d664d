"""The linear model of texts: words and characters counted in the graph as in training, answers of every kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.plugins import estimator
from modelworks.algorithms.text.features import fit_view, unspaced_share
from modelworks.compute.embedding import embed_column, objects
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import DataError, TaskError
from modelworks.core.signature import CHARACTERS, Tensor
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.serving.heads.split import split_head

TEXTS = [
    "Not good, not GOOD at all!", "good  fun", "", "Ｆｕｌｌ width ﬁ and ǅ", "這部電影很好 good", "good\nfun 42",
    "x" * 60, "at all! not good", "很好很好", "end", "not\U0001f600good", "\U0001f600 fun end 42", "İstanbul end",
    "don't don't",
]  # fmt: skip
COLUMN = Tensor(name=CHARACTERS, datatype="INT64", shape=(-1, -1), columns=("text",))


@pytest.mark.parametrize("words", [True, False])
def test_the_graph_counts_what_training_counted(words: bool) -> None:
    view, matrix = fit_view(TEXTS, words=words, features=500)
    graph = Graph()
    graph.rename(view.features(graph), "embedding")
    width = len(view.encoder.ngrams)
    onnx = graph.to_bytes([COLUMN], [Tensor(name="embedding", datatype="FP32", shape=(-1, width))])
    found = embed_column(onnx, (COLUMN,), TEXTS)
    np.testing.assert_allclose(found, matrix.toarray(), atol=1e-5)
    if words:
        assert " not good " in view.encoder.ngrams
        assert matrix[1].nnz == 2  # Two blanks part "good" and "fun": no pair.


def _train(kind: TaskKind, target: np.ndarray, classes: tuple[str, ...]) -> TrainingSamples:
    rng = np.random.default_rng(3)
    words = [["pump", "leaks", "oil"], ["fine", "green", "runs"], ["late", "parcel", "lost"]]
    texts = [" ".join(rng.permutation([*words[code % 3], f"no{code}"])) for code in range(90)]
    return TrainingSamples(
        payload=objects(texts), column="text", modality="text", kind=kind, target=target, classes=classes,
        weight=None, folds=(np.arange(90) // 3 % 5).astype(np.int8),
    )  # fmt: skip


def test_every_kind_is_answered_and_a_head_is_recognised() -> None:
    codes = np.arange(90) % 3
    missing = codes.copy()
    missing[::7] = -1
    several = np.stack([codes == 0, codes != 1, codes == 2], axis=1).astype(np.uint8)
    several[4:9, 1] = 255
    cases = [
        (TaskKind.BINARY, (codes == 1).astype(np.int64), ("no", "yes")),
        (TaskKind.MULTICLASS, missing, ("a", "b", "c")),
        (TaskKind.MULTILABEL, several, ("x", "y", "z")),
    ]
    for kind, target, classes in cases:
        train = _train(kind, target, classes)
        model = estimator("text.linear")().fit(train, None, Budget(60), 0)
        found = answer(GraphSession(model.onnx), model.signature, {"text": train.payload}, 90)
        if kind is TaskKind.MULTILABEL:
            assert np.mean(found["labels"] == (several == 1))[()] > 0.9
            continue
        truth = codes if kind is TaskKind.MULTICLASS else target
        assert np.mean(found["label"] == np.array(classes, object)[truth]) > 0.95
        again = estimator("text.linear")().fit(train, None, Budget(60), 0)
        assert again.onnx == model.onnx
        assert split_head(model.onnx, model.signature) is not None


def test_texts_without_blanks_are_read_in_pairs_where_that_loses_less() -> None:
    rng = np.random.default_rng(5)
    marks = [["很好", "不错", "喜欢"], ["太差", "难吃", "退货"]]
    codes = np.arange(120) % 2
    filler = [chr(point) for point in rng.integers(0x4E00, 0x4E00 + 300, 4000)]
    texts = []
    for row, code in enumerate(codes):
        drawn = "".join(filler[row * 30 : row * 30 + 20])
        texts.append(drawn[:9] + str(rng.choice(marks[code])) + drawn[9:])
    train = replace(_train(TaskKind.BINARY, codes, ("bad", "good")), payload=objects(texts), target=codes,
                    folds=(np.arange(120) // 2 % 5).astype(np.int8))  # fmt: skip
    model = estimator("text.linear")().fit(train, None, Budget(60), 0)
    assert "pairs" in model.diagnostics["chosen"]
    found = answer(GraphSession(model.onnx), model.signature, {"text": train.payload}, 120)
    assert np.mean(found["label"] == np.array(["bad", "good"], object)[codes]) > 0.9
    assert unspaced_share(texts) > 0.99 and unspaced_share(["not one"]) == 0.0 == unspaced_share(["42"])
    plain = replace(train, payload=_train(TaskKind.BINARY, codes[:90], ("bad", "good")).payload, target=codes[:90],
                    folds=train.folds[:90])  # fmt: skip
    assert "words" in estimator("text.linear")().fit(plain, None, Budget(60), 0).diagnostics["chosen"]


def test_what_cannot_be_learned_is_named() -> None:
    train = _train(TaskKind.BINARY, np.zeros(90, np.int64), ("no", "yes"))
    with pytest.raises(TaskError, match="the same"):
        estimator("text.linear")().fit(train, None, Budget(60), 0)
    blank = replace(train, payload=objects([""] * 90), target=np.arange(90) % 2)
    with pytest.raises(DataError, match="occurs in two texts"):
        estimator("text.linear")().fit(blank, None, Budget(60), 0)
