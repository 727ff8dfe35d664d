"""Weighted words, pairs of words and character n-grams of a text, counted from its code points inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.characters import NO_CHARACTER, NgramEncoder
from modelworks.algorithms.backbones.ngrams import TOP
from modelworks.algorithms.graph import Graph
from modelworks.core.errors import DataError, MissingExtra
from modelworks.core.signature import CHARACTERS

BLANK = " "
LONGEST = 32
"""Characters of the longest word or pair of words, with the blanks around it."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One way to read a text: its vocabulary, and which characters it takes for blanks.

    Attributes:
        encoder: Vocabulary and weights.
        words: Whether everything but letters and digits reads as a blank, and texts begin and end with one.
    """

    encoder: NgramEncoder
    words: bool

    def features(self, graph: Graph) -> str:
        """Add the nodes from ``characters`` to unit-length features ``[rows, n-grams]``."""
        table = self._table()
        last = graph.constant(len(table) - 1, np.int64)
        known = graph.op("Min", graph.op("Max", CHARACTERS, graph.constant(-1, np.int64)), last)
        ids = graph.op("Gather", graph.constant(table), known, axis=0)
        span = [graph.constant([item], np.int64) for item in (0, self.encoder.max_characters, 1)]
        cut = graph.op("Slice", ids, *span)
        if self.words:
            rows = graph.op("Shape", CHARACTERS, end=1)
            shape = graph.op("Concat", rows, graph.constant([1], np.int64), axis=0)
            edge = graph.op("Expand", graph.constant([[self._id(BLANK)]], np.int64), shape)
            cut = graph.op("Concat", edge, cut, edge, axis=1)
        return self.encoder.features(graph, cut)

    def _id(self, character: str) -> int:
        return self.encoder.characters.index(character) + 1

    def _table(self) -> npt.NDArray[np.int64]:
        """Return the id of every code point up to the last known one, then unknown (0), then padding."""
        ids = {character: place + 1 for place, character in enumerate(self.encoder.characters)}
        blank = ids[BLANK] if self.words else 0
        found = np.zeros(TOP, np.int64)
        for point in range(TOP):
            character = plain(chr(point))
            found[point] = blank if self.words and not character.isalnum() else ids.get(character, 0)
        different = np.flatnonzero(found != (blank if self.words else 0))
        end = int(different[-1]) + 1 if len(different) else 0
        # What is beyond the table is unknown to both views: no n-gram holds an unknown character.
        return np.concatenate([found[:end], [0, blank if self.words else NO_CHARACTER]])


_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0x20000, 0x2FA1F),
)  # fmt: skip
"""Blocks of scripts that part no words: Thai, Lao, Burmese, Khmer, kana, Han."""


def unspaced_share(texts: Sequence[str]) -> float:
    """Return the share of letters that belong to scripts without blanks between words, over the first 1,000 texts."""
    points = np.array([ord(character) for text in texts[:1000] for character in text if character.isalpha()])
    if not len(points):
        return 0.0
    found = np.zeros(len(points), np.bool_)
    for first, last in _UNSPACED:
        found |= (points >= first) & (points <= last)
    return float(found.mean())


def plain(character: str) -> str:
    """Return a character in lower case and in its compatibility form, where that is one character."""
    import unicodedata

    found = unicodedata.normalize("NFKC", character).lower()
    return found if len(found) == 1 else character


def fit_view(texts: Sequence[str], *, words: bool, features: int, longest: int = 5) -> tuple[View, Any]:
    """Choose and weight the n-grams that occur in at least two texts.

    Args:
        texts: Training texts.
        words: Words and pairs of words; else runs of 1 to ``longest`` characters.
        features: At most so many, the most frequent first.
        longest: Characters in the longest run.

    Returns:
        The view, and the features of the texts as a sparse matrix ``[texts, n-grams]`` (CSR, float32), equal to what
        the graph computes.

    Raises:
        DataError: No n-gram occurs in two texts.
        MissingExtra: ``scikit-learn`` is not installed.

    Source: Salton & Buckley (1988), Term-weighting approaches in automatic text retrieval.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Learning the words of texts", "text") from error

    most = 4096
    vectorizer = TfidfVectorizer(
        analyzer=_words if words else _Runs(longest),
        sublinear_tf=True,
        min_df=2,
        max_features=features,
        dtype=np.float32,
    )
    known: dict[str, str] = {}
    try:
        matrix = vectorizer.fit_transform([_plain_text(text[:most], known) for text in texts])
    except ValueError as error:
        raise DataError(
            "No word or run of characters occurs in two texts.", code="MW1152", hint="collect more texts"
        ) from error
    ngrams = tuple(str(item) for item in vectorizer.get_feature_names_out())
    encoder = NgramEncoder(
        characters=tuple(sorted({BLANK, *(character for ngram in ngrams for character in ngram)})),
        ngrams=ngrams,
        weights=np.asarray(vectorizer.idf_, np.float32),
        longest=max(len(ngram) for ngram in ngrams),
        max_characters=most,
    )
    return View(encoder=encoder, words=words), matrix


def _plain_text(text: str, known: dict[str, str]) -> str:
    for character in set(text) - known.keys():
        known[character] = plain(character)
    return "".join([known[character] for character in text])


def _words(text: str) -> list[str]:
    """Return every word, and every two that one blank parts, with blanks around them."""
    read = "".join([character if character.isalnum() else BLANK for character in text]).split(BLANK)
    found = [f" {word} " for word in read if word and len(word) <= LONGEST - 2]
    for one, two in pairwise(read):
        if one and two and len(one) + len(two) <= LONGEST - 3:
            found.append(f" {one} {two} ")
    return found


@dataclass(frozen=True)
class _Runs:
    longest: int

    def __call__(self, text: str) -> list[str]:
        return [
            text[start : start + length]
            for length in range(1, self.longest + 1)
            for start in range(len(text) - length + 1)
        ]
