"""Short texts as word and word-pair weights, split and counted in the graph by standard operators.

Words are recognised by a table of spellings (as seen in training, lower, capital and upper case, with common
punctuation behind), because lower-casing inside ONNX Runtime depends on the locales a machine has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import ML, Graph

MAX_TERMS = 300
_LEAST_SHARE, _MOST_SHARE = 0.005, 0.6
_LEAST_ROWS = 4
_EDGES = ".,;:!?\"'()[]{}<>*#-_/\\|+=~`"
_TRAILING = ("", ".", ",", "!", "?", ";", ":")
_MAX_WORDS = 200


@dataclass(frozen=True, kw_only=True)
class TextTerms:
    """Terms of one text column.

    Attributes:
        spellings: Token as it stands in a text -> word number.
        terms: Word numbers of each term: one word, or two that follow each other.
        idf: float32 inverse document frequency per term.
    """

    spellings: dict[str, int]
    terms: tuple[tuple[int, ...], ...]
    idf: npt.NDArray[np.float32]

    def write(self, graph: Graph, column: str) -> str:
        """Add the weights of a string column ``[rows, 1]``; returns float32 ``[rows, terms]`` of length 1."""
        flat = graph.op("Squeeze", column, graph.constant([1], np.int64))
        padded = graph.op("StringConcat", flat, graph.strings([" ."], (1,)))
        tokens, _ = graph.ops("StringSplit", padded, outs=(None, None), maxsplit=_MAX_WORDS)
        words = graph.op(
            "LabelEncoder",
            tokens,
            domain=ML,
            keys_strings=list(self.spellings),
            values_int64s=list(self.spellings.values()),
            default_int64=-1,
        )
        singles = [term for term in self.terms if len(term) == 1]
        counts = graph.op(
            "TfIdfVectorizer",
            words,
            mode="TF",
            min_gram_length=1,
            max_gram_length=2,
            max_skip_count=0,
            ngram_counts=[0, len(singles)],
            ngram_indexes=list(range(len(self.terms))),
            pool_int64s=[word for term in self.terms for word in term],
        )
        damped = graph.op("Log", graph.op("Add", counts, graph.constant(1.0, np.float32)))
        weighted = graph.op("Mul", damped, graph.constant(self.idf[None, :], np.float32))
        length = graph.op("ReduceL2", weighted, graph.constant([1], np.int64), keepdims=1)
        return graph.op("Div", weighted, graph.op("Max", length, graph.constant(1e-6, np.float32)))


def fit_terms(texts: Sequence[str]) -> TextTerms | None:
    """Choose the terms of a text column by how many rows hold them (labels are not looked at).

    Returns:
        ``None`` if no term is in enough rows.
    """
    rows = [[(token, _word(token)) for token in text.split()[:_MAX_WORDS]] for text in texts]
    frequency: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        words = [word for _, word in row]
        pairs = {pair for pair in pairwise(words) if all(pair)}
        frequency.update({(word,) for word in words if word})
        frequency.update(pairs)
    least = max(_LEAST_ROWS, _LEAST_SHARE * len(rows))
    common = [(term, count) for term, count in frequency.items() if least <= count <= _MOST_SHARE * len(rows)]
    chosen = sorted(common, key=lambda item: (-item[1], item[0]))[:MAX_TERMS]
    if not chosen:
        return None
    chosen.sort(key=lambda item: (len(item[0]), item[0]))
    numbers: dict[str, int] = {}
    for term, _ in chosen:
        for word in term:
            numbers.setdefault(word, len(numbers))
    spellings = {token: numbers[word] for row in rows for token, word in row if word in numbers}
    for word, number in numbers.items():
        for case in (word, word.capitalize(), word.upper()):
            for end in _TRAILING:
                spellings.setdefault(case + end, number)
    counts = np.array([count for _, count in chosen], dtype=np.float64)
    return TextTerms(
        spellings=dict(sorted(spellings.items())),
        terms=tuple(tuple(numbers[word] for word in term) for term, _ in chosen),
        idf=(np.log((1 + len(rows)) / (1 + counts)) + 1).astype(np.float32),
    )


def _word(token: str) -> str:
    return token.strip(_EDGES).lower()
