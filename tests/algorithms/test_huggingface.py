"""Encoders from a local folder or the local cache: the graph answers as the encoder, nothing is downloaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelworks.algorithms.backbones.fusion import payload_inputs
from modelworks.algorithms.backbones.huggingface import (
    HuggingFaceSource,
    alias_of,
    check_encoder,
    encoder_files,
    encoder_modality,
    find_encoder,
    folder_of,
)
from modelworks.compute.embedding import embed_column
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import DataError, MissingExtra, TaskError

WORDS = 60


def save_text_encoder(kind: str, folder: Path) -> Any:
    """Save a small encoder with random weights and a tokenizer of whole words; returns the encoder."""
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    from tokenizers import Tokenizer, models, pre_tokenizers

    small = {
        "vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 66,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "distilbert":
        config = transformers.DistilBertConfig(vocab_size=WORDS, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
        encoder = transformers.DistilBertModel(config)
    elif kind == "roberta":
        encoder = transformers.RobertaModel(transformers.RobertaConfig(**small))
    else:
        encoder = transformers.BertModel(transformers.BertConfig(**small))
    encoder.eval().save_pretrained(folder)
    words = {"[PAD]": 0, "[UNK]": 1, **{f"w{index}": index for index in range(2, WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\nA card.\n")
    return encoder


def save_image_encoder(kind: str, folder: Path) -> Any:
    """Save a small image encoder with random weights; returns the encoder."""
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    torch.manual_seed(0)
    look: dict[str, Any] = {"do_resize": True, "resample": 2, "size": {"height": 16, "width": 16}}
    if kind == "vit":
        config = transformers.ViTConfig(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16,
            patch_size=4,
        )  # fmt: skip
        encoder = transformers.ViTModel(config, add_pooling_layer=False)
        look |= {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
    elif kind == "resnet":
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_channels=3
        )
        encoder = transformers.ResNetModel(config)
        look |= {
            "size": {"shortest_edge": 20},
            "do_center_crop": True,
            "crop_size": {"height": 16, "width": 16},
        }
    else:
        config = transformers.ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2)
        encoder = transformers.ConvNextModel(config)
        look |= {"size": {"shortest_edge": 21}, "crop_pct": 0.875, "resample": 3}
    encoder.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(look))
    return encoder


def _texts(rng: np.random.Generator) -> list[str]:
    return [" ".join(f"w{code}" for code in rng.integers(2, WORDS, size)) for size in (1, 5, 12, 3, 90)]


def _pooled(torch: Any, encoder: Any, text: str, pool: str, most: int) -> np.ndarray:
    ids = [int(word[1:]) for word in text.split()][:most]
    with torch.no_grad():
        states = encoder(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones((1, len(ids)), dtype=torch.int64)
        )
    states = states[0][0].numpy()
    found = states[0] if pool == "first" else states.mean(axis=0)
    return np.asarray(found / np.linalg.norm(found))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_text_encoder_answers_as_in_torch(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    encoder = save_text_encoder(kind, tmp_path)
    source = HuggingFaceSource(folder=str(tmp_path), name="hf.small", max_tokens=64)
    made = source.make([], 0)
    assert made.digest == source.make([], 1).digest
    assert (made.name, made.modality, made.licence, made.width) == ("hf.small", "text", "mit", 16)
    assert str(tmp_path) not in json.dumps(made.about)
    texts = _texts(np.random.default_rng(0))
    found = embed_column(made.onnx, payload_inputs(made, "text"), texts, tokenizer=made.tokenizer)
    assert made.tokenizer is not None and made.tokenizer.max_tokens == 64
    for row, text in enumerate(texts):
        np.testing.assert_allclose(found[row], _pooled(torch, encoder, text, "mean", 64), atol=1e-5)


@pytest.mark.slow
def test_the_pooling_is_what_the_folder_or_the_setting_says(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    encoder = save_text_encoder("bert", tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    made = HuggingFaceSource(folder=str(tmp_path), name="hf.small").make([], 0)
    texts = _texts(np.random.default_rng(1))[:3]
    found = embed_column(made.onnx, payload_inputs(made, "text"), texts, tokenizer=made.tokenizer)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(found[row], _pooled(torch, encoder, text, "first", 64), atol=1e-5)
    assert HuggingFaceSource(folder=str(tmp_path), name="hf.small", pool="both").make([], 0).width == 32
    with pytest.raises(DataError, match="no pooling 'max'"):
        HuggingFaceSource(folder=str(tmp_path), name="hf.small", pool="max").make([], 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_an_image_encoder_answers_as_in_torch_behind_its_own_preprocessing(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    image = pytest.importorskip("PIL.Image", reason="needs the extra 'image'")
    encoder = save_image_encoder(kind, tmp_path)
    made = HuggingFaceSource(folder=str(tmp_path), name="hf.small").make([], 0)
    look = json.loads((tmp_path / "preprocessor_config.json").read_text())
    session = GraphSession(made.onnx)
    for shape in ((16, 16), (23, 40), (70, 31)):
        rng = np.random.default_rng(2)
        coarse = rng.integers(0, 255, (2, 5, 5, 3)).astype(np.uint8)
        pixels = np.stack([np.asarray(image.fromarray(one).resize(shape[::-1], 2)) for one in coarse])
        found = session.run({"pixels": pixels})["embedding"]
        side = {"vit": 16, "resnet": 16, "convnext": 21}[kind]
        shortest = {"vit": 0, "resnet": 20, "convnext": 24}[kind]
        seen = []
        for one in pixels:
            height, width = one.shape[:2]
            target = (side, side)
            if shortest:
                least = min(height, width)
                target = (shortest * height // least, shortest * width // least)
            resized = np.asarray(image.fromarray(one).resize(target[::-1], look["resample"]), np.float32)
            top, left = (target[0] - side) // 2, (target[1] - side) // 2
            cut = resized[top : top + side, left : left + side] / 255
            mean, spread = look.get("image_mean", [0.5] * 3), look.get("image_std", [0.5] * 3)
            seen.append(((cut - mean) / spread).transpose(2, 0, 1))
        with torch.no_grad():
            states = encoder(pixel_values=torch.tensor(np.stack(seen), dtype=torch.float32))[0]
        expected = (states.mean((2, 3)) if states.dim() == 4 else states.mean(1)).numpy()
        # Pillow rounds resized pixels to bytes, the graph does not.
        np.testing.assert_allclose(found, expected, atol=0.04 * float(np.abs(expected).max()))


def test_names_tell_encoders_apart_without_their_place(tmp_path: Path) -> None:
    assert alias_of("hf:/home/me/models/small bert/") == "hf.small-bert"
    assert alias_of("hf:organisation/name-v2") == "hf.organisation-name-v2"
    assert alias_of("hf:../..") == "hf.encoder"
    assert "/" not in alias_of("hf:/a/b\\c/../d")


def test_an_encoder_that_is_not_here_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DataError, match="not on this disk") as raised:
        find_encoder("hf:organisation/name")
    assert raised.value.error_code == "MW1148" and "hf download organisation/name" in str(raised.value.hint)
    with pytest.raises(DataError, match="not on this disk"):
        find_encoder(f"hf:{tmp_path}/nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no config\.json"):
        find_encoder(f"hf:{tmp_path}/empty")


def test_a_name_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    place = tmp_path / "hub" / "models--organisation--name"
    for revision in ("old", "new"):
        folder = place / "snapshots" / revision
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 9}))
        (folder / "model.safetensors").write_bytes(revision.encode())
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("old")
    found = find_encoder("hf:organisation/name")
    assert found.name == "old"
    files = encoder_files(found)
    assert set(files) == {"config.json", "model.safetensors"} and folder_of(files.values()) == found
    assert encoder_modality(found) == "text"
    assert check_encoder("hf:organisation/name", "text") > 0
    with pytest.raises(TaskError, match="reads text samples"):
        check_encoder("hf:organisation/name", "image")


def test_without_the_extra_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 9}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra) as raised:
        HuggingFaceSource(folder=str(tmp_path), name="hf.small").make([], 0)
    assert "modelworks[hf]" in str(raised.value.hint)
