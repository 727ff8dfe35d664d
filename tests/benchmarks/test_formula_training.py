"""Pictures of formulas, a step of training on them, and the graph that comes of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")


def test_a_pair_shows_one_thing_twice() -> None:
    from benchmarks.images.formula.gallery import leaves, make_pairs

    torch.manual_seed(0)
    pairs = make_pairs(10, 64, "cpu").float()
    assert pairs.shape == (10, 2, 3, 64, 64)
    assert (pairs.flatten(1).std(1) > 2).all()
    apart = (pairs[:, 0] - pairs[:, 1]).abs().mean((1, 2, 3))
    # Leaves come once, everything else is drawn twice.
    assert 3 <= int((apart == 0).sum()) <= 6
    assert torch.equal(*leaves(4, 64, "cpu").unbind(1))


def test_a_step_is_trained_and_exported_with_the_channels_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.images.formula import export, train

    from modelworks.compute.runtime import GraphSession

    asked = ["--work", str(tmp_path), "--steps", "1", "--batch", "8", "--pool", "8", "--first", "8"]
    asked += ["--objectives", "contrast_mix_plain_pairs_crops", "--widths", "8,8,16,24"]
    monkeypatch.setattr(sys, "argv", ["train", *asked])
    train.main()
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / "encoder.pt"), "--out", str(tmp_path)])
    export.main()
    card = json.loads((tmp_path / "formula.json").read_text(encoding="utf-8"))
    assert card["widths"] == [8, 8, 16, 24] and "--widths 8,8,16,24" in card["command"]
    assert card["int8_distance"] < 0.05
    session = GraphSession((tmp_path / "formula.onnx").read_bytes())
    found = session.run({"image": np.zeros((1, 3, 64, 64), np.float32)})
    assert [item.shape[1:] for item in found.values()] == [(8, 32, 32), (8, 16, 16), (16, 8, 8), (24, 4, 4)]
