"""The n-gram encoder: what the graph computes equals the training features, in any language."""

from __future__ import annotations

import numpy as np
import pytest

from modelworks.algorithms.backbones.characters import NgramEncoder, fit_ngram_encoder
from modelworks.algorithms.graph import Graph
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import DataError
from modelworks.core.signature import Tensor

pytest.importorskip("tokenizers")

TEXTS = [
    "The pump IS leaking  again!",
    "pump fine",
    "泵坏了，需要修理。",
    "Straße gesperrt: Ölspur",
    "ﬁne — the “ﬁlter” is clean\n",
    "",
    "泵 fine",
] * 3


def _graph_features(encoder: NgramEncoder, texts: list[str]) -> np.ndarray:
    graph = Graph()
    graph.rename(encoder.features(graph), "features")
    session = GraphSession(
        graph.to_bytes(
            [Tensor(name="token_ids", datatype="INT64", shape=(-1, -1))],
            [Tensor(name="features", datatype="FP32", shape=(-1, len(encoder.ngrams)))],
        )
    )
    return session.run(encoder.feeds(texts))["features"]


def test_the_graph_computes_the_training_features() -> None:
    encoder, matrix = fit_ngram_encoder(TEXTS, features=400)
    np.testing.assert_allclose(_graph_features(encoder, TEXTS), matrix.toarray(), atol=1e-6)


def test_one_text_equals_a_padded_batch_and_unseen_characters_are_ignored() -> None:
    encoder, _ = fit_ngram_encoder(TEXTS, features=400)
    texts = ["pump", "the pump is unknown to Ж and 한국", ""]
    batch = _graph_features(encoder, texts)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(_graph_features(encoder, [text])[0], batch[row], atol=1e-6)
    assert np.linalg.norm(batch[0]) == pytest.approx(1, abs=1e-5)
    assert not batch[2].any()


def test_a_long_text_is_cut() -> None:
    encoder, _ = fit_ngram_encoder(TEXTS, features=100, max_characters=10)
    assert encoder.feeds(["pump " * 50])["token_ids"].shape == (1, 10)


def test_empty_texts_are_refused() -> None:
    with pytest.raises(DataError, match="No text"):
        fit_ngram_encoder(["", ""])
