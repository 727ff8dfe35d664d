"""The built-in backbones that need no download: patches of images, n-grams of texts, kernels over series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelworks.algorithms.backbones.characters import fit_ngram_encoder
from modelworks.algorithms.backbones.kernels import KERNEL_LENGTH, fit_kernel_encoder, stack_series
from modelworks.algorithms.backbones.ngrams import ngram_backbone
from modelworks.algorithms.backbones.patches import PatchEncoder
from modelworks.core.backbone import Backbone, BackboneCard

OWN = "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class PatchSource:
    """Configuration of ``images.patches``.

    Attributes:
        side: Images are resized to ``side`` x ``side`` pixels inside the graph.
        atoms: Dictionary entries.
        width: Length of the embedding.
    """

    side: int = 32
    atoms: int = 256
    width: int = 512

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="images.patches",
            modality="image",
            summary="Whitened patch dictionary and its principal components, learned from the images themselves.",
            source="Coates, Ng & Lee (2011); Coates & Ng (2012)",
            fitted=True,
            min_samples=10,
            cost_ms=1.5,
            fit_s=0.8,
            fit_ms=1.5,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Fit the dictionary on unlabelled images (``uint8 [height, width, 3]``)."""
        onnx = PatchEncoder(side=self.side, atoms=self.atoms, width=self.width).fit(list(samples), seed)
        return _backbone(self.card, onnx, asdict(self), len(samples))


@dataclass(frozen=True, kw_only=True)
class NgramSource:
    """Configuration of ``text.ngrams``.

    Attributes:
        features: N-grams that are counted, at most.
        width: Length of the embedding.
        longest: Characters in the longest n-gram.
    """

    features: int = 8000
    width: int = 256
    longest: int = 5

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="text.ngrams",
            modality="text",
            summary="Weighted character n-grams of any language, counted in the graph, and their leading directions.",
            source="Salton & Buckley (1988); Deerwester et al. (1990), Indexing by latent semantic analysis",
            fitted=True,
            min_samples=4,
            cost_ms=0.15,
            fit_s=2.2,
            fit_ms=0.5,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Choose the n-grams and their directions on unlabelled texts."""
        texts = [text or "" for text in samples]
        encoder, matrix = fit_ngram_encoder(texts, features=self.features, longest=self.longest)
        onnx = ngram_backbone(encoder, matrix, self.width, seed)
        return _backbone(self.card, onnx, asdict(self), len(samples))


@dataclass(frozen=True, kw_only=True)
class KernelSource:
    """Configuration of ``series.kernels``.

    Attributes:
        features: Kernel responses, about.
        length: Values per series that the graph takes; 0 for the longest training series.
    """

    features: int = 4998
    length: int = 0

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="series.kernels",
            modality="series",
            summary="MiniRocket kernels: the share of positive values of dilated convolutions.",
            source="Dempster, Schmidt & Webb (2021), MiniRocket",
            fitted=True,
            min_samples=2,
            cost_ms=2.0,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Choose the biases on unlabelled series (``float32 [channels, length]``)."""
        length = self.length or max(item.shape[1] for item in samples)
        stacked = stack_series(samples, max(length, KERNEL_LENGTH))
        onnx = fit_kernel_encoder(stacked, features=self.features, seed=seed)
        return _backbone(self.card, onnx, asdict(self), len(samples))


def _backbone(card: BackboneCard, onnx: bytes, settings: dict[str, Any], samples: int) -> Backbone:
    return Backbone(
        name=card.name,
        modality=card.modality,
        onnx=onnx,
        width=width_of(onnx),
        licence=OWN,
        about={"source": card.source, "settings": settings, "fitted_on": samples},
    )


def width_of(onnx: bytes) -> int:
    """Return the length of the embedding that a graph gives."""
    import onnx as library

    shape = library.load_model_from_string(onnx).graph.output[0].type.tensor_type.shape
    return int(shape.dim[1].dim_value)
