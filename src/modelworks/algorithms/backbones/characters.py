"""Text encoder without downloads: weighted character n-grams of any language, counted inside the graph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.core.errors import DataError, MissingExtra

Floats = npt.NDArray[np.float32]

UNKNOWN = "[UNK]"
NO_CHARACTER = -1


@dataclass(frozen=True, kw_only=True)
class NgramEncoder:
    """A fitted vocabulary of character n-grams.

    A text becomes lower-case characters through a declared ``tokenizers`` file; everything after that is in the
    graph: counts, ``1 + log(count)``, inverse document frequency, unit length.

    Attributes:
        characters: Known characters; the id of a character is its place plus one (0 is an unknown character).
        ngrams: Known n-grams in the order of the features.
        weights: Inverse document frequency of each n-gram.
        longest: Characters in the longest n-gram.
        max_characters: Characters after which a text is cut.
    """

    characters: tuple[str, ...]
    ngrams: tuple[str, ...]
    weights: Floats
    longest: int
    max_characters: int = 4096

    @property
    def tokenizer(self) -> str:
        """Text of ``tokenizer.json``: NFKC and lower case, then one token per character."""
        vocabulary = {UNKNOWN: 0} | {character: place + 1 for place, character in enumerate(self.characters)}
        return json.dumps(
            {
                "version": "1.0",
                "truncation": {
                    "direction": "Right",
                    "max_length": self.max_characters,
                    "strategy": "LongestFirst",
                    "stride": 0,
                },
                "padding": None,
                "added_tokens": [],
                "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
                "pre_tokenizer": None,
                "post_processor": None,
                "decoder": None,
                "model": {
                    "type": "BPE",
                    "dropout": None,
                    "unk_token": UNKNOWN,
                    "continuing_subword_prefix": None,
                    "end_of_word_suffix": None,
                    "fuse_unk": False,
                    "byte_fallback": False,
                    "ignore_merges": False,
                    "vocab": vocabulary,
                    "merges": [],
                },
            },
            ensure_ascii=False,
        )

    def feeds(self, texts: list[str]) -> dict[str, npt.NDArray[Any]]:
        """Turn texts into ``token_ids INT64 [rows, characters]``, padded with -1.

        Raises:
            MissingExtra: ``tokenizers`` is not installed.
        """
        encoded = [item.ids for item in _tokenizer(self.tokenizer).encode_batch(texts)]
        ids = np.full((len(texts), max(1, *(len(item) for item in encoded))), NO_CHARACTER, np.int64)
        for row, item in enumerate(encoded):
            ids[row, : len(item)] = item
        return {"token_ids": ids}

    def features(self, graph: Graph, source: str = "token_ids") -> str:
        """Add the nodes from token ids to the weighted, unit-length features ``[rows, len(ngrams)]``."""
        ids = {character: place + 1 for place, character in enumerate(self.characters)}
        pool: list[int] = []
        counts: list[int] = []
        indexes: list[int] = []
        for length in range(1, self.longest + 1):
            counts.append(len(pool))
            for place, ngram in enumerate(self.ngrams):
                if len(ngram) == length:
                    pool += [ids[character] for character in ngram]
                    indexes.append(place)
        count = graph.op(
            "TfIdfVectorizer",
            source,
            mode="TF",
            min_gram_length=1,
            max_gram_length=self.longest,
            max_skip_count=0,
            ngram_counts=counts,
            ngram_indexes=indexes,
            pool_int64s=pool,
        )
        one = graph.constant(1, np.float32)
        present = graph.cast(graph.op("Greater", count, graph.constant(0, np.float32)), FLOAT)
        damped = graph.op("Mul", present, graph.op("Add", graph.op("Log", graph.op("Max", count, one)), one))
        weighted = graph.op("Mul", damped, graph.constant(self.weights))
        length_of = graph.op("ReduceL2", weighted, graph.constant([1], np.int64))
        return graph.op("Div", weighted, graph.op("Max", length_of, graph.constant(1e-12, np.float32)))


def fit_ngram_encoder(
    texts: list[str], *, features: int = 30_000, longest: int = 5, least: int = 3, max_characters: int = 4096
) -> tuple[NgramEncoder, Any]:
    """Choose the character n-grams that occur in at least ``least`` texts and weight them.

    Args:
        texts: Unlabelled training texts.
        features: At most this many n-grams, the most frequent first.
        longest: Characters in the longest n-gram.
        least: Texts an n-gram must occur in (1 below 200 texts).
        max_characters: Characters after which a text is cut.

    Returns:
        The encoder and the training features as a sparse matrix ``[len(texts), ngrams]`` (SciPy CSR, float32), equal to
        what the graph computes.

    Raises:
        DataError: No text has a character.
        MissingExtra: ``scikit-learn`` or ``tokenizers`` is not installed.

    Source: Salton & Buckley (1988), Term-weighting approaches in automatic text retrieval; Cavnar & Trenkle
    (1994), N-gram-based text categorization.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Learning the words of texts", "text") from error
    cut = [_normalised(text)[:max_characters] for text in texts]
    vectorizer = TfidfVectorizer(
        analyzer=_Ngrams(longest),
        sublinear_tf=True,
        min_df=least if len(texts) >= 200 else 1,
        max_features=features,
        dtype=np.float32,
    )
    try:
        matrix = vectorizer.fit_transform(cut)
    except ValueError as error:
        raise DataError("No text has a character to learn from.", code="MW1185") from error
    ngrams = tuple(str(ngram) for ngram in vectorizer.get_feature_names_out())
    encoder = NgramEncoder(
        characters=tuple(sorted({character for ngram in ngrams for character in ngram})),
        ngrams=ngrams,
        weights=np.asarray(vectorizer.idf_, np.float32),
        longest=max(len(ngram) for ngram in ngrams),
        max_characters=max_characters,
    )
    return encoder, matrix


@dataclass(frozen=True)
class _Ngrams:
    """Every run of 1 to ``longest`` characters of a text, white space kept as it is."""

    longest: int

    def __call__(self, text: str) -> list[str]:
        return [
            text[start : start + length]
            for length in range(1, self.longest + 1)
            for start in range(len(text) - length + 1)
        ]


def _normalised(text: str) -> str:
    """What the tokenizer's normalizers do."""
    try:
        from tokenizers.normalizers import NFKC, Lowercase, Sequence
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Text through a tokenizer", "text") from error
    return str(Sequence([NFKC(), Lowercase()]).normalize_str(text))


def _tokenizer(text: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Text through a tokenizer", "text") from error
    return Tokenizer.from_str(text)
