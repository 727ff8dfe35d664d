"""Backbones ``hf:FOLDER`` and ``hf:ORGANISATION/NAME``: Hugging Face encoders from this machine's disk, as one graph.

Nothing is downloaded and no code of the model's folder is run. A name is looked up in the local cache only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelworks.algorithms.backbones.sources import width_of
from modelworks.core.backbone import MAX_TOKENS, Backbone, BackboneCard
from modelworks.core.errors import DataError, TaskError
from modelworks.core.task import Modality

PREFIX = "hf:"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_READ = (
    _CONFIG,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
    "1_Pooling/config.json",
    "README.md",
)
"""Files beside the weights that an encoder is made from."""
_MS_PER_MEGABYTE = {"text": 0.12, "image": 0.35}
"""CPU-milliseconds of one sample per megabyte of weights, about."""


def is_encoder(name: str) -> bool:
    """Say whether a backbone is named by a folder or a Hugging Face name."""
    return name.startswith(PREFIX)


def alias_of(name: str) -> str:
    """Return the name under which an encoder is recorded: without the folders above it and safe in a path."""
    where = name.removeprefix(PREFIX).rstrip("/\\")
    last = Path(where).name if _looks_like_path(where) else where
    return "hf." + (re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")[:80] or "encoder")


def find_encoder(name: str) -> Path:
    """Return the folder of an encoder: the one that is named, or the snapshot of that name in the local cache.

    Args:
        name: ``hf:FOLDER`` or ``hf:ORGANISATION/NAME``.

    Raises:
        DataError: It is not on this disk, or its folder lacks a file.
    """
    where = name.removeprefix(PREFIX)
    folder = Path(where).expanduser()
    if not folder.is_dir():
        folder = _cached(where) if not _looks_like_path(where) else folder
    if not folder.is_dir():
        raise DataError(
            f"The encoder '{where}' is not on this disk, and nothing is downloaded here.",
            code="MW1148",
            hint=f"on a machine with a network: hf download {where} --local-dir encoder; copy the folder here and name "
            "it: --option backbone=hf:/PATH/encoder"
            if not _looks_like_path(where)
            else "name a folder that holds config.json and model.safetensors",
        )
    if not (folder / _CONFIG).is_file() or not list(folder.glob("model*.safetensors")):
        missing = _WEIGHTS if (folder / _CONFIG).is_file() else _CONFIG
        raise DataError(
            f"The encoder folder '{folder}' has no {missing}.",
            code="MW1186",
            hint="copy the model's whole folder from a machine that has it; weights are read from safetensors only",
        )
    return folder


def _looks_like_path(where: str) -> bool:
    return where.startswith(("/", "~", ".", "\\")) or where.count("/") > 1 or Path(where).drive != ""


def _cached(name: str) -> Path:
    """Return the newest complete snapshot of a name in the cache that ``HF_HUB_CACHE`` or ``HF_HOME`` names."""
    home = Path(os.environ.get("HF_HOME", Path("~/.cache/huggingface").expanduser()))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    place = cache / ("models--" + name.replace("/", "--"))
    main = place / "refs" / "main"
    if main.is_file():
        named = place / "snapshots" / main.read_text(encoding="utf-8").strip()
        if (named / _CONFIG).is_file():
            return named
    found = [item.parent for item in place.glob(f"snapshots/*/{_CONFIG}")]
    return max(found, key=lambda item: item.stat().st_mtime, default=place)


def encoder_files(folder: Path) -> dict[str, Path]:
    """Return the files that an encoder is made from: a change of any makes another backbone."""
    names = [name for name in _READ if (folder / name).is_file()]
    names += sorted(item.name for item in folder.glob("model*.safetensors*"))
    return {name: folder / name for name in names}


def folder_of(files: Iterable[Path]) -> Path:
    """Return the folder of ``encoder_files``."""
    return next(path.parent for path in files if path.name == _CONFIG and path.parent.name != "1_Pooling")


def encoder_modality(folder: Path) -> Modality:
    """Return what an encoder reads."""
    config = read_json(folder / _CONFIG)
    pixels = (
        (folder / "preprocessor_config.json").is_file() or "image_size" in config or "num_channels" in config
    )
    return "image" if pixels and "vocab_size" not in config else "text"


def check_encoder(name: str, modality: Modality) -> float:
    """Check that an encoder is there and reads such samples; returns about the CPU-milliseconds of one sample.

    Raises:
        DataError: It is not on this disk.
        TaskError: It reads other samples.
    """
    folder = find_encoder(name)
    reads = encoder_modality(folder)
    if reads != modality:
        raise TaskError(
            f"The encoder '{name.removeprefix(PREFIX)}' reads {reads} samples; these are {modality} samples.",
            code="MW1255",
            hint=f"name an {modality} encoder" if modality == "image" else f"name a {modality} encoder",
        )
    size = sum(path.stat().st_size for path in folder.glob("model*.safetensors")) / 1e6
    return max(0.1, _MS_PER_MEGABYTE[reads] * size)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is not there is an empty one.

    Raises:
        DataError: It is not JSON.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"'{path}' is not JSON: {error}", code="MW1149") from error
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True)
class HuggingFaceSource:
    """Configuration of an encoder in a local folder.

    Attributes:
        folder: Where its files are.
        name: Name under which it is recorded.
        max_tokens: Tokens above which a text is cut; its own limit if that is lower.
        pool: How states become one vector: ``mean``, ``first`` (the first token) or ``both``; ``""`` for what its
            folder says, else the mean.
    """

    folder: str
    name: str
    max_tokens: int = MAX_TOKENS
    pool: str = ""

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        folder = Path(self.folder)
        kind = read_json(folder / _CONFIG).get("model_type", "encoder")
        return BackboneCard(
            name=self.name,
            modality=encoder_modality(folder),
            summary=f"Hugging Face encoder of type {kind} from a local folder.",
            source="Wolf et al. (2020), Transformers",
            licence=_licence(folder),
            cost_ms=check_encoder(PREFIX + self.folder, encoder_modality(folder)),
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Read the weights and write the graph; samples and seed change nothing.

        Raises:
            DataError: The folder does not hold such an encoder, or a setting has a value that there is not.
            MissingExtra: The extra ``hf`` is not installed.
        """
        from modelworks.algorithms.backbones.encoders import write_image_encoder, write_text_encoder

        folder = Path(self.folder)
        if self.pool not in {"", "mean", "first", "both"}:
            raise DataError(
                f"There is no pooling '{self.pool}'.", code="MW1249", hint="pool: mean, first or both"
            )
        card = self.card
        settings = {key: value for key, value in asdict(self).items() if key not in {"folder", "name"}}
        about: dict[str, Any] = {"source": card.source, "settings": settings, "weights": "a local folder"}
        tokenizer: bytes | None = None
        if card.modality == "text":
            onnx, tokenizer, most = write_text_encoder(folder, self.max_tokens, self.pool)
            about["max_tokens"] = most
        else:
            onnx = write_image_encoder(folder, self.pool)
        return Backbone(
            name=card.name,
            modality=card.modality,
            onnx=onnx,
            width=width_of(onnx),
            licence=card.licence,
            preprocessor=tokenizer,
            about=about,
        )


def _licence(folder: Path) -> str:
    """Return the licence that the front matter of the model's card states."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.search(r"\A---\n(?:.*\n)*?license:\s*['\"]?([A-Za-z0-9.+-]+)", text)
    return found[1] if found else "not stated in the encoder's folder"
