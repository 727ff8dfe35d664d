"""Texts to the tokens that a graph reads, by a declared ``tokenizer.json``; one text at a time, in one thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import DataError, ExecutionError, MissingExtra
from modelworks.core.signature import ATTENTION, TOKEN_IDS, Tokenizer


def token_feeds(
    tokenizer: Tokenizer, values: Sequence[Any] | npt.NDArray[Any]
) -> dict[str, npt.NDArray[Any]]:
    """Return ``token_ids`` and ``attention``, INT64 [rows, tokens], as wide as the longest text.

    Args:
        tokenizer: With its bytes.
        values: Texts; ``None`` is the empty text.

    Raises:
        DataError: A value is no text.
        ExecutionError: The file is no tokenizer, or it fails on a text.
        MissingExtra: ``tokenizers`` is not installed.
    """
    for index, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise DataError(f"row {index}: expected a text, got {value!r:.60}.", code="MW1105")
    encode = loaded(tokenizer).encode
    # A lone surrogate is no character to the library; it is read as the replacement character.
    texts = [(value or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace") for value in values]
    rows = [_guarded(lambda text=text: encode(text).ids) for text in texts]
    ids = np.zeros((len(rows), max(1, *(len(row) for row in rows), 1)), np.int64)
    attention = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        attention[index, : len(row)] = 1
    return {TOKEN_IDS: ids, ATTENTION: attention}


def loaded(tokenizer: Tokenizer) -> Any:
    """Return the library's tokenizer; the last few are kept."""
    return _load(tokenizer.sha256, tokenizer.max_tokens, tokenizer.data)


@lru_cache(maxsize=8)
def _load(sha256: str, max_tokens: int, data: bytes) -> Any:
    try:
        from tokenizers import Tokenizer as Library
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Text through a tokenizer", "text") from error

    found = _guarded(lambda: Library.from_str(data.decode("utf-8")))
    found.no_padding()
    _guarded(lambda: found.enable_truncation(max_tokens))
    return found


def _guarded(call: Any) -> Any:
    """Return what a call into the library gives; its failures, a panic in its native code too, are errors of ours."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise ExecutionError(f"tokenizer.json fails: {str(error)[:200]}", code="MW5003") from error
