"""Training of networks: repeatable, resumable, budgeted, the same in two processes as in one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped, Cancelled, StorageError, UsageError
from modelworks.core.task import TaskKind
from modelworks.training.deep.augmentation import mirrors_keep_labels
from modelworks.training.deep.examples import Examples, examples_of
from modelworks.training.deep.plan import Augmentation, Plan
from modelworks.training.problem import Problem

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

from modelworks.training.deep.checkpoint import read_checkpoint  # noqa: E402
from modelworks.training.deep.job import CHECKPOINT, WEIGHTS, TrainingJob, launch, run_job  # noqa: E402
from modelworks.training.deep.loop import Progress, Saving, Trained, train_network  # noqa: E402
from modelworks.training.deep.losses import row_losses  # noqa: E402
from modelworks.training.deep.networks import NetworkSpec  # noqa: E402
from modelworks.training.deep.prediction import predict  # noqa: E402

IMAGES = NetworkSpec(kind="image", outputs=3, width=4, side=16)
SERIES = NetworkSpec(kind="series", outputs=1, width=3, depth=3, channels=2, length=40)
TEXTS = NetworkSpec(kind="text", outputs=2, width=6, depth=1, length=24, symbols=12, buckets=64)
PLAN = Plan(
    epochs=3, batch=16, average=0.9, augmentation=Augmentation(flip=True, shift=0.1, colour=0.2, cutout=0.2, mixup=0.2)
)  # fmt: skip


def _examples(spec: NetworkSpec, rows: int = 60, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    kind = {"image": TaskKind.MULTICLASS, "series": TaskKind.REGRESSION, "text": TaskKind.MULTILABEL}[
        spec.kind
    ]
    if spec.kind == "image":
        target = rng.integers(0, 3, rows)
        inputs = rng.integers(0, 90, (rows, 3, spec.side, spec.side)).astype(np.uint8)
        for row, code in enumerate(target):
            inputs[row, code, 4:12, 4:12] += 140
    elif spec.kind == "series":
        inputs = rng.normal(size=(rows, 2, 40)).astype(np.float32)
        target = rng.normal(size=rows)
        inputs[:, 0, 10:20] += target[:, None]
    else:
        inputs = rng.integers(2, 12, (rows, 24)).astype(np.int32)
        target = np.stack([(inputs == 3).any(1), (inputs == 5).sum(1) > 2], 1).astype(np.uint8)
        target[:4, 0] = 255
    problem = Problem(
        kind=kind,
        target=target,
        folds=np.zeros(rows, np.int8),
        classes={"image": 3, "series": 0, "text": 2}[spec.kind],
    )
    return examples_of(problem, inputs)


def _fit(spec: NetworkSpec, plan: Plan = PLAN, seed: int = 3, **more: object) -> Trained:
    valid = _examples(spec, 30, seed=1)
    return train_network(spec, _examples(spec), valid, plan, seed=seed, **{"budget": Budget(600), **more})  # type: ignore[arg-type]


def _weights(trained: Trained) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in trained.network.state_dict().items()}


@pytest.mark.parametrize("spec", [IMAGES, SERIES, TEXTS], ids=lambda spec: spec.kind)
def test_one_seed_gives_one_result_and_another_seed_another(spec: NetworkSpec) -> None:
    plan = replace(PLAN, epochs=1)
    first = _weights(_fit(spec, plan))
    torch.manual_seed(99)
    assert _weights(_fit(spec, plan)) == first
    assert _weights(_fit(spec, plan, seed=4)) != first


@pytest.mark.parametrize("spec", [IMAGES, SERIES, TEXTS], ids=lambda spec: spec.kind)
def test_a_run_that_was_cut_and_goes_on_ends_bit_equal(spec: NetworkSpec, tmp_path: Path) -> None:
    whole = _fit(spec)

    class Cut(Exception):
        pass

    def cut(progress: Progress) -> None:
        if progress.step == 7:
            raise Cut

    saving = Saving(path=tmp_path / "run.safetensors", every=2)
    with pytest.raises(Cut):
        _fit(spec, saving=saving, report=cut)
    again = _fit(spec, saving=saving)
    assert again.resumed_from == 6
    assert _weights(again) == _weights(whole)
    assert again.history == whole.history


def test_the_network_learns_and_the_best_epoch_is_kept() -> None:
    trained = _fit(IMAGES, Plan(epochs=12, batch=16, rate=4e-3))
    losses = [line["valid_loss"] for line in trained.history]
    assert min(losses) < 0.5 * losses[0]
    assert trained.best_epoch == int(np.argmin(losses)) + 1
    fresh = _examples(IMAGES, 60, seed=5)
    right = predict(trained.network, fresh).argmax(1) == fresh.target.argmax(1)
    assert right.mean() > 0.9


def test_training_ends_early_when_nothing_gets_better() -> None:
    noise = _examples(SERIES)
    noise = noise.with_target(np.random.default_rng(3).normal(size=noise.target.shape))
    trained = train_network(
        SERIES, noise, _examples(SERIES, 30, seed=1), Plan(epochs=60, batch=16, patience=3, rate=1e-2),
        budget=Budget(600), seed=0,
    )  # fmt: skip
    assert trained.stopped == "patience"
    assert len(trained.history) == trained.best_epoch + 3 < 60


def test_the_budget_ends_training_with_the_best_weights_or_says_that_it_is_too_small() -> None:
    ticks = iter(range(10_000))
    plan = replace(PLAN, epochs=50)
    trained = _fit(IMAGES, plan, budget=Budget(40.0, cpu_time=lambda: float(next(ticks))))
    assert trained.stopped == "budget"
    assert 0 < len(trained.history) < 50
    few = iter(range(10_000))
    with pytest.raises(BudgetStopped, match="before the first pass"):
        _fit(IMAGES, plan, budget=Budget(2.0, cpu_time=lambda: float(next(few))))


def test_a_cancelled_run_ends_at_its_next_step() -> None:
    budget = Budget(600)
    seen = []

    def cancel(progress: Progress) -> None:
        seen.append(progress)
        budget.cancel()

    with pytest.raises(Cancelled):
        _fit(IMAGES, budget=budget, report=cancel)
    assert len(seen) == 1
    assert seen[0].left_s > 0


def test_a_foreign_or_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    saving = Saving(path=tmp_path / "run.safetensors")
    _fit(IMAGES, replace(PLAN, epochs=1), saving=saving)
    with pytest.raises(UsageError, match="other rows"):
        _fit(IMAGES, saving=saving)
    saving.path.write_bytes(saving.path.read_bytes()[:100])
    with pytest.raises(StorageError, match="damaged"):
        read_checkpoint(saving.path)


def test_the_loss_of_a_mixed_target_is_the_mixed_loss() -> None:
    rng = np.random.default_rng(0)
    scores, known = torch.from_numpy(rng.normal(size=(5, 3))), torch.ones(5, 3)
    hard = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0, 1]), 3).float()
    soft = torch.softmax(torch.from_numpy(rng.normal(size=(5, 3))), 1)
    mixed = row_losses(scores, 0.3 * hard + 0.7 * soft, known, "softmax")
    parts = 0.3 * row_losses(scores, hard, known, "softmax") + 0.7 * row_losses(
        scores, soft, known, "softmax"
    )
    assert torch.allclose(mixed.double(), parts.double(), atol=1e-6)


def test_mirrors_are_allowed_for_shapes_and_forbidden_for_sides() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 120)
    sides = rng.integers(0, 40, (120, 3, 32, 32)).astype(np.uint8)
    heights = sides.copy()
    for row, code in enumerate(labels):
        sides[row, :, :, slice(0, 12) if code else slice(20, 32)] += 150
        heights[row, :, slice(0, 12) if code else slice(20, 32)] += 150
    assert not mirrors_keep_labels(sides, labels)
    assert mirrors_keep_labels(heights, labels)


def _job(folder: Path, plan: Plan, every: int = 0, spec: NetworkSpec = IMAGES) -> None:
    train, valid = _examples(IMAGES, 96), _examples(IMAGES, 40, seed=1)
    TrainingJob(spec=spec, plan=plan, seed=5, every=every).write(folder, train, valid)


def _encoder(folder: Path) -> NetworkSpec:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4
    )  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return NetworkSpec(kind="pretrained", outputs=3, side=16, folder=str(folder), modality="image")


@pytest.mark.slow
@pytest.mark.parametrize(("what", "kills"), [("from nothing", (8, 15, 9)), ("fine-tuning", (10, 13))])
def test_a_killed_process_goes_on_and_ends_bit_equal(
    what: str, kills: tuple[int, ...], tmp_path: Path
) -> None:
    plan = replace(PLAN, epochs=4, batch=8)
    spec = IMAGES if what == "from nothing" else _encoder(tmp_path / "encoder")
    _job(tmp_path / "whole", plan, every=3, spec=spec)
    _job(tmp_path / "killed", plan, every=3, spec=spec)
    run_job(tmp_path / "whole")
    command = [sys.executable, "-m", "modelworks.training.deep.job", str(tmp_path / "killed")]
    for steps in kills:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for count, line in enumerate(process.stdout, 1):
                if line.startswith("{") and count >= steps:
                    os.kill(process.pid, signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
    resumed = run_job(tmp_path / "killed")
    assert resumed["resumed_from"] > 0
    assert resumed["resumed_from"] < resumed["steps"]
    for name in (WEIGHTS, CHECKPOINT):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_two_processes_train_the_model_that_one_trains(tmp_path: Path) -> None:
    plan = replace(PLAN, epochs=3, batch=16, precision="fp32")
    for name in ("one", "two"):
        # Dropout is drawn by each process for its own rows; all else is drawn for the whole batch.
        _job(tmp_path / name, plan, spec=replace(IMAGES, dropout=0.0))
    one, two = run_job(tmp_path / "one"), launch(tmp_path / "two", 2)
    assert (one["processes"], two["processes"]) == (1, 2)
    for left, right in zip(one["history"], two["history"], strict=True):
        assert left["train_loss"] == pytest.approx(right["train_loss"], rel=1e-4)
        assert left["valid_loss"] == pytest.approx(right["valid_loss"], rel=1e-3)
    assert json.loads((tmp_path / "two" / "result.json").read_text())["steps"] == one["steps"]


def test_bf16_trains_to_nearly_the_same_loss_with_full_precision_weights() -> None:
    plan = Plan(epochs=2, batch=16, precision="fp32")  # auto would be bf16 on a processor with AMX
    whole, half = _fit(IMAGES, plan), _fit(IMAGES, replace(plan, precision="bf16"))
    assert (whole.precision, half.precision) == ("fp32", "bf16")
    assert half.history != whole.history
    assert half.history[0]["train_loss"] == pytest.approx(whole.history[0]["train_loss"], rel=0.05)
    assert all(value.dtype != torch.bfloat16 for value in half.network.state_dict().values())


def test_balanced_classes_weigh_the_same() -> None:
    target = np.array([0] * 18 + [1] * 2)
    problem = Problem(kind=TaskKind.BINARY, target=target, folds=np.zeros(20, np.int8), classes=2)
    inputs = np.zeros((20, 2, 40), np.float32)
    plain, even = examples_of(problem, inputs), examples_of(problem, inputs, balanced=True)
    assert plain.weight[target == 1].sum() == pytest.approx(2.0)
    assert even.weight[target == 1].sum() == pytest.approx(even.weight[target == 0].sum())


def test_the_learning_rate_rises_and_falls() -> None:
    for schedule in ("cosine", "one_cycle"):
        plan = Plan(rate=1.0, warmup=0.2, schedule=schedule)  # type: ignore[arg-type]
        rates = [plan.rate_at(step, 50) for step in range(50)]
        assert max(rates) == pytest.approx(1.0)
        assert np.argmax(rates) == 9
        assert rates[-1] < 0.01
