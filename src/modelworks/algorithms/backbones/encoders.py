"""Hugging Face encoders as graphs: read by ``transformers``, written by PyTorch's exporter, with preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from modelworks.algorithms.backbones.huggingface import read_json
from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.core.backbone import EMBEDDING
from modelworks.core.errors import DataError, MissingExtra
from modelworks.core.signature import ATTENTION, PIXELS, TOKEN_IDS, Tensor

LARGEST_SIDE = 512


def write_text_encoder(folder: Path, max_tokens: int, pool: str) -> tuple[bytes, bytes, int]:
    """Return the graph from tokens to embeddings of unit length, the tokenizer file, and where texts are cut.

    Raises:
        DataError: The folder has no tokenizer, or no encoder that is known.
        MissingExtra: The extra ``hf`` is not installed.
    """
    tokenizer, pad = _tokenizer(folder)
    config = read_json(folder / "config.json")
    most = min(max_tokens, _positions(config))
    encoder = _encoder(folder)
    pooling = pool or _pooling(folder)
    library = _library()

    class TextPool(library.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, token_ids: Any, attention: Any) -> Any:
            ids = library.where(attention > 0, token_ids, pad)
            states = self.encoder(input_ids=ids, attention_mask=attention)[0]
            share = attention.unsqueeze(2).to(states.dtype)
            mean = (states * share).sum(1) / share.sum(1).clamp_min(1.0)
            return _pooled(library, states[:, 0], mean, pooling)

    sample = (
        library.ones((2, 7), dtype=library.int64) * (2 % max(2, int(config.get("vocab_size", 3)))),
        library.ones((2, 7), dtype=library.int64),
    )
    from modelworks.algorithms.deep.export import exported_graph

    body = exported_graph(TextPool(), sample, (TOKEN_IDS, ATTENTION), free=((0, 1), (0, 1)), most=most)
    graph = Graph()
    (states,) = graph.adopt(body, {item.name: item.name for item in body.graph.input})
    length = graph.op("ReduceL2", states, graph.constant([1], np.int64))
    graph.op("Div", states, graph.op("Max", length, graph.constant(1e-12, np.float32)), out=EMBEDDING)
    onnx = graph.to_bytes(
        [Tensor(name=name, datatype="INT64", shape=(-1, -1)) for name in (TOKEN_IDS, ATTENTION)],
        [Tensor(name=EMBEDDING, datatype="FP32", shape=(-1, _width(encoder, pooling)))],
    )
    return onnx, tokenizer, most


def write_image_encoder(folder: Path, pool: str) -> bytes:
    """Return the graph from pixels of any size to embeddings; resizing, cropping and scaling are the encoder's own.

    Raises:
        DataError: The folder holds no encoder that is known.
        MissingExtra: The extra ``hf`` is not installed.
    """
    encoder = _encoder(folder)
    pooling = pool or "mean"
    library = _library()
    look = read_json(folder / "preprocessor_config.json")
    side, shortest = _sides(look, read_json(folder / "config.json"))

    class ImagePool(library.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, inputs: Any) -> Any:
            states = self.encoder(pixel_values=inputs)[0]
            if states.dim() == 4:
                return states.mean((2, 3))
            return _pooled(library, states[:, 0], states.mean(1), pooling)

    from modelworks.algorithms.deep.export import exported_graph

    network = ImagePool()
    with library.no_grad():
        probe = network(library.zeros((1, 3, side, side)))
    body = exported_graph(network, (library.zeros((2, 3, side, side)),), ("inputs",), free=((0,),))
    graph = Graph()
    (found,) = graph.adopt(body, {"inputs": _pixels(graph, look, side, shortest)})
    graph.rename(found, EMBEDDING)
    return graph.to_bytes(
        [Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3))],
        [Tensor(name=EMBEDDING, datatype="FP32", shape=(-1, int(probe.shape[1])))],
    )


def _library() -> Any:
    from modelworks.training.deep.library import load_torch

    return load_torch("A Hugging Face encoder")


def _encoder(folder: Path) -> Any:
    """Read the encoder; both PyTorch and ``transformers`` are imported here and nowhere before."""
    try:
        import torch
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra.named("A Hugging Face encoder", "hf") from error
    del torch
    from modelworks.training.deep.pretrained import load_encoder

    return load_encoder(folder).eval()


def _pooled(library: Any, first: Any, mean: Any, pooling: str) -> Any:
    if pooling == "both":
        return library.cat([first, mean], dim=1)
    return first if pooling == "first" else mean


def _width(encoder: Any, pooling: str) -> int:
    config = encoder.config
    width = int(getattr(config, "hidden_size", 0) or getattr(config, "dim", 0))
    return 2 * width if pooling == "both" else width


def _pooling(folder: Path) -> str:
    """Return what the folder of a sentence encoder says, else the mean."""
    said = read_json(folder / "1_Pooling" / "config.json")
    return (
        "first" if said.get("pooling_mode_cls_token") and not said.get("pooling_mode_mean_tokens") else "mean"
    )


def _positions(config: dict[str, Any]) -> int:
    """Return the most tokens an encoder takes; those of the RoBERTa kind count from behind their padding."""
    most = int(config.get("max_position_embeddings") or 512)
    if config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer"}:
        most -= int(config.get("pad_token_id") or 1) + 1
    return max(most, 8)


def _tokenizer(folder: Path) -> tuple[bytes, int]:
    """Return ``tokenizer.json`` and the token that fills a batch."""
    path = folder / "tokenizer.json"
    config = read_json(folder / "config.json")
    pad = int(config.get("pad_token_id") or 0)
    if path.is_file():
        return path.read_bytes(), pad
    try:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return found.backend_tokenizer.to_str().encode("utf-8"), pad
    except ModuleNotFoundError as error:
        raise MissingExtra.named("A Hugging Face encoder", "hf") from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"The encoder folder '{folder}' has no tokenizer.json, and none can be made of its files.",
            code="MW1186",
            hint="copy the model's whole folder from a machine that has it; nothing is downloaded here",
        ) from error


def _sides(look: dict[str, Any], config: dict[str, Any]) -> tuple[int, int]:
    """Return the side of the square an encoder sees, and the shorter side before cropping (0: stretched)."""
    size, crop = look.get("size"), look.get("crop_size")
    shortest = int(size.get("shortest_edge", 0)) if isinstance(size, dict) else 0
    fixed = size.get("height", 0) if isinstance(size, dict) else (size or 0)
    native = config.get("image_size") or 0
    native = native[0] if isinstance(native, (list, tuple)) else native
    if look.get("do_center_crop") and crop:
        side = int(crop["height"] if isinstance(crop, dict) else crop)
        shortest = shortest or int(fixed)
    elif shortest and look.get("crop_pct"):
        side = shortest
        shortest = int(shortest / float(look["crop_pct"])) if shortest < 384 else 0
    elif shortest:
        side = shortest
    else:
        side = int(fixed or native or 224)
    if not 8 <= side <= LARGEST_SIDE:
        raise DataError(
            f"The encoder sees images of {side} pixels a side; 8 to {LARGEST_SIDE} can be used.",
            code="MW1189",
        )
    return side, shortest


def _pixels(graph: Graph, look: dict[str, Any], side: int, shortest: int) -> str:
    """Add resizing with anti-aliasing, cropping of the middle, and the scale of the encoder."""
    floats = graph.op("Transpose", graph.op("Cast", PIXELS, to=FLOAT), perm=[0, 3, 1, 2])
    head = graph.op("Concat", graph.op("Shape", PIXELS, end=1), graph.constant([3], np.int64), axis=0)
    if shortest:
        sizes = graph.op("Shape", PIXELS, start=1, end=3)
        least = graph.op("ReduceMin", sizes, graph.constant([0], np.int64))
        longer = graph.op("Mul", sizes, graph.constant([shortest], np.int64))
        target = graph.op("Max", graph.op("Div", longer, least), graph.constant([side, side], np.int64))
    else:
        target = graph.constant([side, side], np.int64)
    resized = graph.op(
        "Resize", floats, "", "", graph.op("Concat", head, target, axis=0), antialias=1,
        **({"mode": "cubic", "cubic_coeff_a": -0.5} if look.get("resample", 2) == 3 else {"mode": "linear"}),
    )  # fmt: skip
    if shortest:
        spare = graph.op("Sub", target, graph.constant([side, side], np.int64))
        start = graph.op("Div", spare, graph.constant([2], np.int64))
        end = graph.op("Add", start, graph.constant([side, side], np.int64))
        resized = graph.op("Slice", resized, start, end, graph.constant([2, 3], np.int64))
    resized = graph.op("Clip", resized, graph.constant(0, np.float32), graph.constant(255, np.float32))
    scale = float(look.get("rescale_factor", 1 / 255)) if look.get("do_rescale", True) else 1.0
    mean, spread = np.zeros(3, np.float32), np.ones(3, np.float32)
    if look.get("do_normalize", True):
        mean = np.array(look.get("image_mean") or [0.5] * 3, np.float32)
        spread = np.array(look.get("image_std") or [0.5] * 3, np.float32)
    scaled = graph.op("Mul", resized, graph.constant((scale / spread)[None, :, None, None], np.float32))
    return graph.op("Sub", scaled, graph.constant((mean / spread)[None, :, None, None], np.float32))
