"""Fine-tuning: a Hugging Face encoder in a local folder gets a new last layer; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelworks.core.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from modelworks.training.deep.networks import NetworkSpec


class PretrainedNetwork(nn.Module):  # type: ignore[misc]
    """An encoder, the mean of its last states, and a linear layer.

    Parameters of the encoder are named ``encoder.*`` so that a plan can give them a learning rate of their own.

    Source: Devlin et al. (2019), BERT; Dosovitskiy et al. (2021), ViT; Kornblith, Shlens & Le (2019), Do better
    ImageNet models transfer better?
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.modality = spec.modality
        mean, spread = _normalisation(Path(spec.folder))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(spread).view(1, 3, 1, 1), persistent=False)
        self.encoder = load_encoder(Path(spec.folder))
        self.drop = nn.Dropout(spec.dropout)
        self.head = nn.Linear(_width(self.encoder), spec.outputs)

    def forward(self, inputs: Any) -> Any:
        return self.head(self.drop(self.embed(inputs)))

    def embed(self, inputs: Any) -> Any:
        """Return one vector per row: of ``[n, 2, length]`` ids and attention, or of pixels in [-1, 1]."""
        if self.modality == "text":
            attention = inputs[:, 1]
            states = self.encoder(input_ids=inputs[:, 0], attention_mask=attention)[0]
            share = attention.unsqueeze(2).to(states.dtype)
            return (states * share).sum(1) / share.sum(1).clamp_min(1.0)
        states = self.encoder(pixel_values=((inputs + 1) / 2 - self.mean) / self.spread)[0]
        return states.mean((2, 3)) if states.dim() == 4 else states.mean(1)


def load_encoder(folder: Path) -> Any:
    """Read an encoder from a folder with ``config.json`` and ``model.safetensors``, without its own code.

    Raises:
        DataError: A file is missing, or the architecture is not one that ``transformers`` knows.
        MissingExtra: ``transformers`` is not installed.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise DataError(
                f"The encoder folder '{folder}' has no {name}.",
                code="MW1186",
                hint="copy the model's folder from a machine that has it; nothing is downloaded here",
            )
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Fine-tuning an encoder", "hf") from error
    logging.get_logger("transformers.modeling_utils").setLevel(logging.ERROR)
    logging.disable_progress_bar()
    try:
        encoder = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
            attn_implementation="eager",
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"The encoder in '{folder}' cannot be read: {str(error).splitlines()[0][:200]}", code="MW1188"
        ) from error
    pooler = getattr(encoder, "pooler", None)
    if pooler is not None and any(True for _ in pooler.parameters()):
        # Its answer is not used, and what is not used must not be trained or shipped.
        encoder.pooler = None
    return encoder


def _normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """Return mean and spread of the pixels (0 to 1) that an image encoder was trained with."""
    path = folder / "preprocessor_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    mean, spread = config.get("image_mean") or [0.5] * 3, config.get("image_std") or [0.5] * 3
    return [float(value) for value in mean], [float(value) for value in spread]


def _width(encoder: Any) -> int:
    config = encoder.config
    sizes = getattr(config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else config.hidden_size)
