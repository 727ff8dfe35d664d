"""The graph from code points to an embedding of texts: characters looked up, n-grams counted, directions taken."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from modelworks.algorithms.backbones.characters import NgramEncoder
from modelworks.algorithms.graph import Graph
from modelworks.core.signature import CHARACTERS, Tensor

TOP = 0x30000
"""Code points from here on (seldom more than emblems and flags) are read as unknown characters."""


def ngram_backbone(encoder: NgramEncoder, matrix: Any, width: int, seed: int) -> bytes:
    """Write ``characters INT64 [rows, -1] -> embedding FP32 [rows, width]``.

    Characters become the ids of ``encoder`` by a table: lower case and the compatibility forms that are one character.

    Args:
        encoder: Vocabulary of n-grams.
        matrix: Its sparse training features ``[texts, n-grams]``, from which the directions are taken.
        width: Length of the embedding; less where there are fewer texts or n-grams.
        seed: Seed of the subspace search.

    Source: Deerwester et al. (1990), Indexing by latent semantic analysis; Halko, Martinsson & Tropp (2011).
    """
    directions = _directions(matrix, width, seed)
    graph = Graph()
    table = _table(encoder)
    last = graph.constant(len(table) - 1, np.int64)
    known = graph.op("Min", graph.op("Max", CHARACTERS, graph.constant(-1, np.int64)), last)
    # Index -1 is the table's last entry: the padding; the entry before it is every unknown character.
    cut = graph.op(
        "Slice",
        graph.op("Gather", graph.constant(table), known, axis=0),
        graph.constant([0], np.int64),
        graph.constant([encoder.max_characters], np.int64),
        graph.constant([1], np.int64),
    )
    features = encoder.features(graph, cut)
    graph.op("MatMul", features, graph.constant(directions), out="embedding")
    return graph.to_bytes(
        [Tensor(name=CHARACTERS, datatype="INT64", shape=(-1, -1))],
        [Tensor(name="embedding", datatype="FP32", shape=(-1, directions.shape[1]))],
    )


def _table(encoder: NgramEncoder) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the id of every code point up to the last known one, then unknown (0), then padding (-1)."""
    ids = {character: place + 1 for place, character in enumerate(encoder.characters)}
    found = [ids.get(_plain(chr(point)), 0) for point in range(TOP)]
    end = max((point for point, known in enumerate(found) if known), default=0) + 1
    return np.array([*found[:end], 0, -1], np.int64)


def _plain(character: str) -> str:
    plain = unicodedata.normalize("NFKC", character).lower()
    return plain if len(plain) == 1 else character


def _directions(matrix: Any, width: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    from sklearn.utils.extmath import randomized_svd

    width = min(width, *(side - 1 for side in matrix.shape)) if min(matrix.shape) > 1 else 1
    _, values, right = randomized_svd(matrix, n_components=width, n_iter=4, random_state=seed)
    kept = values > max(float(values[0]), 1e-12) * 1e-6
    return np.ascontiguousarray(right[kept].T, dtype=np.float32)
