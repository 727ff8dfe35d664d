"""Escalation: the gate decides on held-out rows, the reason is written down, a missing PyTorch is named."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelworks.algorithms.backbones.fusion import payload_inputs
from modelworks.algorithms.deep import escalation
from modelworks.algorithms.deep.escalation import escalate
from modelworks.algorithms.deep.policy import Policy, policy_of
from modelworks.algorithms.plugins import backbone_source, estimator
from modelworks.compute.embedding import embed_column, objects
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import TaskError
from modelworks.core.estimator import FittedModel
from modelworks.core.task import Bound, Limits, Task, TaskKind
from modelworks.data.samples.training import TrainingSamples

GATE = (Bound.parse("accuracy", ">= 0.85"),)
OPTIONS = (("width", 8), ("epochs", 25), ("trials", 0))


@functools.cache
def _train(rows: int = 240, seed: int = 0) -> TrainingSamples:
    """A bump at one of two places, which the moments of a series do not show."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, rows)
    values = rng.normal(0, 0.3, (rows, 1, 32)).astype(np.float32)
    for row, code in enumerate(codes):
        values[row, 0, 6 + 14 * code : 12 + 14 * code] += 2.0
    payload = objects(list(values))
    backbone = backbone_source("series.moments")().make(list(values), 0)
    return TrainingSamples(
        payload=payload, column="x", modality="series", kind=TaskKind.BINARY, target=codes, classes=("early", "late"),
        weight=None, folds=(np.arange(rows) % 5).astype(np.int8), backbones={"series.moments": backbone},
        embeddings={"series.moments": embed_column(backbone.onnx, payload_inputs(backbone, "x"), payload)},
    )  # fmt: skip


def _escalated(policy: Policy, budget: float = 600.0) -> FittedModel:
    train = _train()
    head = estimator("samples.heads")().fit(train, None, Budget(60), 0)
    return escalate(head, train, policy, Budget(budget), 0)


def _outcome(model: FittedModel) -> dict[str, Any]:
    found: dict[str, Any] = model.diagnostics["escalation"]
    return found


def test_a_head_that_misses_the_gate_gives_way_to_a_network_that_does_better(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra 'torch'")
    checkpoint = tmp_path / "run.safetensors"
    policy = Policy(
        gate=GATE, metric="accuracy", limits=Limits(latency_ms=50.0), options=OPTIONS, checkpoint=str(checkpoint)
    )  # fmt: skip
    model = _escalated(policy)
    outcome = _outcome(model)
    assert (outcome["tried"], outcome["chosen"]) == (True, "network")
    assert "the head misses accuracy >= 0.85" in outcome["why"]
    assert outcome["network"]["accuracy"] > outcome["head"]["accuracy"]
    fresh = _train(200, 1)
    found = answer(GraphSession(model.onnx), model.signature, {"x": fresh.payload}, fresh.rows)
    assert np.mean(found["label"] == np.array(fresh.classes, object)[fresh.target]) > 0.9
    assert checkpoint.exists()
    tight = _escalated(replace(policy, limits=Limits(size_mb=0.001)))
    assert tight.diagnostics["network_tried"]["cpu_parts"]["train"] < model.diagnostics["cpu_parts"]["train"]
    assert _outcome(tight)["chosen"] == "head"
    assert "MB is over" in _outcome(tight)["why"]


def test_a_head_that_holds_the_gate_or_a_switch_keeps_it() -> None:
    easy = _outcome(_escalated(Policy(gate=(Bound.parse("accuracy", ">= 0.1"),), metric="accuracy")))
    assert not easy["tried"]
    assert easy["why"].startswith("the head holds the gate")
    assert not _outcome(_escalated(Policy(gate=GATE, metric="accuracy", mode="never")))["tried"]
    assert _outcome(_escalated(Policy()))["why"] == "the task has no gate of its own"


def test_without_pytorch_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escalation, "torch_is_here", lambda: False)
    outcome = _outcome(_escalated(Policy(gate=GATE, metric="accuracy")))
    assert (outcome["tried"], outcome["chosen"]) == (False, "head")
    assert outcome["hint"] == "pip install 'modelworks[torch]'"
    assert "PyTorch" in outcome["why"]


def test_a_budget_that_is_too_small_says_how_much_it_takes() -> None:
    pytest.importorskip("torch", reason="needs the extra 'torch'")
    outcome = _outcome(_escalated(Policy(gate=GATE, metric="accuracy"), budget=15.0))
    assert not outcome["tried"]
    assert outcome["hint"] == "--budget 215s"


def test_the_policy_of_a_task_is_read_and_misspelt_options_are_named() -> None:
    task = Task(
        name="t", data="d", target="y", gate=GATE, options={"escalate": "always", "network": {"width": 8}}
    )
    policy = policy_of(task)
    assert (policy.mode, policy.int8, policy.gate, policy.options) == (
        "always",
        "never",
        GATE,
        (("width", 8),),
    )
    with pytest.raises(TaskError, match=r"no escalate 'alwys'\. Did you mean 'always'"):
        policy_of(replace(task, options={"escalate": "alwys"}))
    with pytest.raises(TaskError, match=r"no setting 'widht'\. Did you mean 'width'"):
        policy_of(replace(task, options={"network": {"widht": 8}}))
