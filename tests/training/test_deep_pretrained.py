"""Fine-tuning: encoders of local folders only, their own pixel scale, slower than the new layer, equal in the graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelworks.core.budget import Budget
from modelworks.core.errors import DataError
from modelworks.core.task import TaskKind
from modelworks.training.deep.examples import Examples, examples_of
from modelworks.training.deep.plan import Plan
from modelworks.training.problem import Problem

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

from modelworks.training.deep.loop import train_network  # noqa: E402
from modelworks.training.deep.networks import NetworkSpec  # noqa: E402
from modelworks.training.deep.prediction import predict  # noqa: E402
from modelworks.training.deep.pretrained import load_encoder  # noqa: E402


def _folder(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    if kind == "image":
        config = transformers.ViTConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=4,
        )
        transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
        notes = {"image_mean": [0.4, 0.4, 0.4], "image_std": [0.2, 0.2, 0.2]}
        (folder / "preprocessor_config.json").write_text(json.dumps(notes))
    elif kind == "convolutions":
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_channels=3
        )
        transformers.ResNetModel(config).save_pretrained(folder)
    else:
        config = transformers.BertConfig(
            vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
        )
        transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def _examples(kind: str, rows: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, rows)
    if kind == "text":
        inputs: Any = np.stack([rng.integers(5, 40, (rows, 10)), np.ones((rows, 10))], 1).astype(np.int32)
        inputs[:, 0, 3] = 1 + codes
        inputs[:, 1, 8:] = rng.integers(0, 2, (rows, 1))
    else:
        inputs = rng.integers(0, 80, (rows, 3, 16, 16)).astype(np.uint8)
        for row, code in enumerate(codes):
            inputs[row, :, 8 * code : 8 * code + 8] += 120
    problem = Problem(kind=TaskKind.BINARY, target=codes, folds=np.zeros(rows, np.int8), classes=2)
    return examples_of(problem, inputs)


def _spec(kind: str, folder: Path) -> NetworkSpec:
    modality = "text" if kind == "text" else "image"
    return NetworkSpec(
        kind="pretrained", outputs=1, side=16, length=10, folder=str(folder), modality=modality
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "convolutions", "text"])
def test_an_encoder_of_a_folder_is_fine_tuned_and_written_as_a_graph(kind: str, tmp_path: Path) -> None:
    from modelworks.algorithms.deep.export import exported_body
    from modelworks.compute.runtime import GraphSession

    spec = _spec(kind, _folder(kind, tmp_path / "encoder"))
    plan = Plan(epochs=16, batch=16, rate=1e-2, body_rate=0.3, smoothing=0.0)
    trained = train_network(
        spec, _examples(kind, 160, 0), _examples(kind, 60, 1), plan, budget=Budget(600), seed=0
    )
    fresh = _examples(kind, 100, 2)
    scores = predict(trained.network, fresh)
    assert np.mean((scores[:, 0] > 0) == (fresh.target[:, 0] > 0.5)) > 0.85
    body = exported_body(trained.network, spec.sample())
    inputs = fresh.inputs.astype(np.int64) if kind == "text" else fresh.inputs.astype(np.float32) / 127.5 - 1
    session = GraphSession(body.SerializeToString())
    for rows in (1, 100):
        found = session.run({session.inputs[0]: inputs[:rows]})["scores"]
        np.testing.assert_allclose(found, scores[:rows], atol=2e-4)


def test_pretrained_layers_learn_slower_than_the_new_one(tmp_path: Path) -> None:
    spec = _spec("text", _folder("text", tmp_path / "encoder"))
    before = spec.build().state_dict()
    plan = Plan(epochs=1, batch=16, rate=1e-3, body_rate=0.0, decay=0.0)
    after = train_network(
        spec, _examples("text", 40, 0), None, plan, budget=Budget(60), seed=0
    ).network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("encoder."))
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_the_pixel_scale_is_the_encoders_own(tmp_path: Path) -> None:
    network = _spec("image", _folder("image", tmp_path / "encoder")).build()
    assert network.mean.flatten().tolist() == pytest.approx([0.4] * 3)
    assert network.spread.flatten().tolist() == pytest.approx([0.2] * 3)


def test_a_folder_without_weights_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.json") as caught:
        load_encoder(tmp_path)
    assert "nothing is downloaded" in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nobody-knows"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        load_encoder(tmp_path)
