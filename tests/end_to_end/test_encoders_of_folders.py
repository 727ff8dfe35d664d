"""A Hugging Face encoder from a folder through the door: packed, asked again, and never named by its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_sources import PUMP, write_reviews

import modelworks as mw
from modelworks.core.errors import DataError


def save_encoder(folder: Path, seed: int = 0) -> Path:
    """Save a small BERT with random weights that knows the words of the reviews."""
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    from sample_sources import FINE
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(seed)
    words = {word: code for code, word in enumerate(["[PAD]", "[UNK]", *PUMP, *FINE])}
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_encoder_of_a_folder_becomes_a_package(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "private place" / "tiny bert")
    reviews = write_reviews(tmp_path, rows=120)
    result = mw.produce(
        reviews, "label", name="reviews", home=tmp_path / "home", explain=False,
        options={"backbone": f"hf:{folder}", "payload": "text"}, limits={"latency_ms": 1000},
    )  # fmt: skip
    assert result.verdict.kind == "released", result.verdict
    assert "on hf.tiny-bert:" in str(result.line.chosen)
    package = Path(str(result.line.path))
    assert (package / "tokenizer.json").exists()
    for path in package.rglob("*"):
        assert not path.is_file() or b"private place" not in path.read_bytes()
    said = result.predict(
        [{"text": "pump leaks oil broken noise"}, {"text": "green runs smoothly quiet fine"}]
    )
    assert [row["label"] for row in said] == ["bad", "good"]


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_an_encoder_that_is_not_here_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not on this disk"):
        mw.produce(
            write_reviews(tmp_path, rows=80), "label", name="reviews", home=tmp_path / "home",
            options={"backbone": "hf:nobody/has-this"},
        )  # fmt: skip
