"""More than a head on the line: a network trained under the task's budget, killed in the middle, gone on with."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import CommandLine

from modelworks.storage.catalog import Catalog

ORDER = """
name: stripes
tasks:
  - name: direction
    data: FOLDER
    target: label
    metric: accuracy
    budget: 120s
    limits: {latency_ms: 500}
    explain: false
    options:
      escalate: always
      backbone: images.patches
      backbone_settings: {images.patches: {atoms: 4, width: 1}}
      network: {width: 8, epochs: 8, trials: 0, side: 16, flip: false}
"""


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Stripes that lean to one side, dark or bright, at any place; the label says whether these two agree."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra 'image'")
    pytest.importorskip("torch", reason="needs the extra 'torch'")
    rng = np.random.default_rng(0)
    down, across = np.mgrid[:32, :32]
    for number in range(200):
        lean, bright = number % 2, number // 2 % 2
        wave = np.sin((across + (0.8 if lean else -0.8) * down) * 0.8 + rng.uniform(0, 6.3))
        pixels = 90 + 80 * bright + 40 * wave[..., None] + rng.normal(0, 10, (32, 32, 3))
        folder = tmp_path / "stripes" / ("same" if lean == bright else "other")
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")
    return tmp_path / "stripes"


def checkpoint(home: Path) -> Path | None:
    return next((home / "artifacts" / "kept").glob("*/training.safetensors"), None)


def kill_in_training(mw: CommandLine, order: Path) -> bool:
    """Start the order and kill its session as soon as the training has written a checkpoint."""
    process = mw.start("produce", str(order))
    deadline = time.monotonic() + 400
    while checkpoint(mw.home) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    return alive


def produced(mw: CommandLine, order: Path) -> Any:
    ended = mw.run("produce", str(order), "--json", timeout=400)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def graph_of(shown: Any) -> str:
    (line,) = shown["lines"]
    assert line["verdict"]["kind"] == "released", line["verdict"]
    return hashlib.sha256((Path(line["path"]) / "model.onnx").read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_network_killed_in_training_ends_as_if_it_was_not(
    tmp_path: Path, order_file: Callable[[str], Path], stripes: Path
) -> None:
    order = order_file(ORDER.replace("FOLDER", str(stripes)))
    killed, quiet = CommandLine(tmp_path / "killed"), CommandLine(tmp_path / "quiet")
    assert kill_in_training(killed, order)
    assert checkpoint(killed.home) is not None
    resumed, straight = produced(killed, order), produced(quiet, order)
    assert graph_of(resumed) == graph_of(straight)
    (line,) = resumed["lines"]
    assert "network" in line["chosen"]
    assert "a network does better" in Path(line["report"]).read_text()
    assert not list((killed.home / "artifacts" / "kept").iterdir())
    with Catalog(killed.home / "modelworks.db") as catalog:
        attempts = [item for item in catalog.ledger.attempts() if item.step == "escalate"]
    assert [item.status for item in attempts] == ["lost", "done"]
    assert all(item.usage.cpu_s > 0 for item in attempts)
    assert resumed["cost"]["whole"]["cpu_s"] >= sum(item.usage.cpu_s for item in attempts)
