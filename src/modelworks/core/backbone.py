"""The contract of a shared encoder: samples of one modality to embeddings, as one ONNX graph named by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from modelworks.core.digest import digest_bytes
from modelworks.core.signature import Tokenizer
from modelworks.core.task import Modality

EMBEDDING = "embedding"
MAX_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """An encoder that is ready to be used.

    Attributes:
        name: Registry name of its source, e.g. ``images.patches``.
        modality: What it reads: ``image``, ``text`` or ``series``.
        onnx: Graph from the payload tensor (``core/signature.py``: pixels, characters or series; or ``token_ids`` and
            ``attention`` INT64 [rows, tokens] where ``preprocessor`` is set) to ``embedding`` FP32 [rows, width].
        width: Length of an embedding.
        licence: SPDX identifier, or a statement, of the weights.
        preprocessor: Bytes of ``tokenizer.json`` where a text becomes tokens before the graph, else ``None``.
        about: Plain JSON data: how it was made, from what, with which settings.
    """

    name: str
    modality: Modality
    onnx: bytes = field(repr=False)
    width: int
    licence: str
    preprocessor: bytes | None = field(default=None, repr=False)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The preprocessor as a signature declares it; ``about["max_tokens"]`` says where a text is cut."""
        if self.preprocessor is None:
            return None
        most = int(self.about.get("max_tokens", MAX_TOKENS))
        return Tokenizer(sha256=digest_bytes(self.preprocessor), max_tokens=most, data=self.preprocessor)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the graph and, where there is one, the preprocessor."""
        whole = hashlib.sha256(self.onnx)
        if self.preprocessor is not None:
            whole.update(b"\0tokenizer\0" + self.preprocessor)
        return whole.hexdigest()


@dataclass(frozen=True, kw_only=True)
class BackboneCard:
    """What an encoder is, for people and for the planner.

    Attributes:
        name: Registry name.
        modality: What it reads.
        summary: One sentence.
        source: Paper of the method, or where the weights come from.
        licence: SPDX identifier, or a statement, of the weights.
        fitted: Whether it learns from the user's own unlabelled samples.
        min_samples: Samples below which it cannot be made.
        cost_ms: CPU-milliseconds of one embedding, about.
        fit_s, fit_ms: What learning takes, about: CPU-seconds in any case, and CPU-milliseconds for each sample.
    """

    name: str
    modality: Modality
    summary: str
    source: str
    licence: str = "Apache-2.0"
    fitted: bool = False
    min_samples: int = 0
    cost_ms: float = 1.0
    fit_s: float = 0.0
    fit_ms: float = 0.0


class BackboneSource(Protocol):
    """Makes a backbone. The object is its frozen, keyword-only configuration dataclass.

    Registered under the entry point group ``modelworks.backbones``.
    """

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        ...

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Return the encoder; equal samples and seeds give equal bytes.

        Args:
            samples: Unlabelled training samples only: pixels ``uint8 [height, width, 3]``, texts, or series
                ``float32 [channels, length]`` (NaN = missing). A ready-made encoder does not look at them.
            seed: Seed of every random choice.

        Raises:
            DataError: The samples cannot be used.
            MissingExtra: A package it needs is not installed.
        """
        ...
