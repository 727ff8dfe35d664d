"""The training loop: repeatable, resumable bit for bit on CPU, within a hard budget, alone or in several processes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped, Cancelled, UsageError
from modelworks.training.deep.augmentation import draw, vary
from modelworks.training.deep.checkpoint import read_checkpoint, write_checkpoint
from modelworks.training.deep.examples import Examples, Rows
from modelworks.training.deep.group import Group
from modelworks.training.deep.library import load_torch, pick_device, pick_precision, repeatable
from modelworks.training.deep.losses import row_losses
from modelworks.training.deep.networks import NetworkSpec
from modelworks.training.deep.plan import Plan
from modelworks.training.deep.prediction import as_inputs, predict


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training run is.

    Attributes:
        step, steps: Steps done and planned.
        epoch: Passes finished.
        train_loss: Mean loss of the epoch so far.
        valid_loss: Validation loss after the last finished epoch, or ``None``.
        left_s: Wall-clock seconds that are left at the present speed.
    """

    step: int
    steps: int
    epoch: int
    train_loss: float
    valid_loss: float | None
    left_s: float


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Where and how often training is written down.

    Attributes:
        path: The checkpoint file; an existing one is gone on from.
        every: Steps between checkpoints; 0 = after every epoch.
    """

    path: Path
    every: int = 0


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training ended with.

    Attributes:
        network: The network in evaluation mode on the CPU, with the best weights by validation loss (the last ones
            without a validation part).
        history: Per epoch ``epoch, train_loss, valid_loss, rate``.
        best_epoch: Epoch whose weights are kept.
        stopped: Why training ended before its plan: ``budget``, ``patience``, ``pruned``, or empty.
        steps: Steps made.
        resumed_from: Step of the checkpoint it went on from, or 0.
        precision: ``fp32`` or ``bf16``.
        device: ``cpu`` or ``cuda``.
    """

    network: Any
    history: list[dict[str, float]]
    best_epoch: int
    stopped: str
    steps: int
    resumed_from: int
    precision: str
    device: str

    def to_json(self) -> dict[str, Any]:
        """Return everything but the network."""
        return {name: value for name, value in self.__dict__.items() if name != "network"}


@dataclass
class _State:
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_loss: float = float("inf")
    best_epoch: int = -1
    loss_sum: float = 0.0
    loss_steps: int = 0
    stopped: str = ""


def train_network(
    spec: NetworkSpec,
    train: Examples,
    valid: Examples | None,
    plan: Plan,
    *,
    budget: Budget,
    seed: int,
    saving: Saving | None = None,
    group: Group | None = None,
    report: Callable[[Progress], None] | None = None,
    judge: Callable[[int, float], bool] | None = None,
) -> Trained:
    """Train a network from nothing, or fine-tune a pretrained one.

    Every random choice is a function of the seed and the number of the step, so a run that goes on from a checkpoint
    ends with the same bits (on one kind of CPU and one number of threads) as one that was never stopped.

    Args:
        spec: The network.
        train: Rows to learn from.
        valid: Rows that choose the epoch and end training early; never the sealed test rows.
        plan: How.
        budget: CPU-seconds of this process; when they end, the best weights so far are returned.
        seed: Seed of weights, order, variation and dropout.
        saving: Where checkpoints go, if anywhere; resumes from one that is there.
        group: The processes that train together.
        report: Told the progress after every step.
        judge: Told epoch and validation loss after every epoch; ``False`` ends training (pruning).

    Raises:
        BudgetStopped: The budget ended before the first epoch did.
        Cancelled: The budget was cancelled; the last checkpoint is kept.
        UsageError: The checkpoint belongs to other data, another network or another plan.
        MissingExtra: PyTorch is not installed.

    Source: Loshchilov & Hutter (2019), Decoupled weight decay regularization (AdamW); Polyak & Juditsky (1992)
    (running mean of the weights); Zhang et al. (2018), mixup.
    """
    device = pick_device(plan.device)
    with repeatable(plan.threads, device):
        run = _Run(spec, train, valid, plan, seed, group or Group(), device)
        if saving is not None:
            run.resume(saving)
        return run.go(budget, saving, report, judge)


class _Run:
    """One training run; its whole state is ``tensors()`` and ``self.state``."""

    def __init__(
        self, spec: NetworkSpec, train: Examples, valid: Examples | None, plan: Plan, seed: int,
        group: Group, device: str,
    ) -> None:  # fmt: skip
        torch = load_torch()
        self.torch, self.plan, self.seed, self.group, self.device = torch, plan, seed, group, device
        self.train, self.valid, self.spec = train, valid, spec
        self.precision = pick_precision(plan.precision, device)
        torch.manual_seed(seed)
        self.network = spec.build()
        if spec.kind == "image":
            seen = np.unique(np.linspace(0, train.rows - 1, 1500).astype(np.int64))
            self.network.prepare(as_inputs(train.inputs[seen]))
            self.network = self.network.to(memory_format=torch.channels_last)
        self.network = self.network.to(device)
        self.wrapped = group.share(self.network)
        self.optimiser = torch.optim.AdamW(
            _parameter_groups(self.network, plan), lr=plan.rate, betas=(0.9, 0.99)
        )
        self.average = self._weights() if plan.average else None
        self.best: dict[str, Any] | None = None
        self.state = _State()
        self.resumed_from = 0
        self.per_epoch = plan.steps_per_epoch(train.rows)
        self.steps = plan.epochs * self.per_epoch

    def go(
        self, budget: Budget, saving: Saving | None, report: Callable[[Progress], None] | None,
        judge: Callable[[int, float], bool] | None,
    ) -> Trained:  # fmt: skip
        state, start, first = self.state, time.monotonic(), self.state.step
        while state.step < self.steps and not state.stopped:
            if self._out_of_budget(budget):
                break
            loss = self._step(state.step)
            state.step += 1
            state.loss_sum, state.loss_steps = state.loss_sum + loss, state.loss_steps + 1
            if state.step % self.per_epoch == 0:
                self._end_epoch(judge)
            if saving is not None and self._due(saving):
                self._save(saving)
            if report is not None:
                spent = (time.monotonic() - start) / (state.step - first)
                report(self._progress(spent * (self.steps - state.step)))
        self._take_best()
        return Trained(
            network=self.network.to("cpu").eval(),
            history=state.history,
            best_epoch=state.best_epoch if self.best is not None else len(state.history),
            stopped=state.stopped,
            steps=state.step,
            resumed_from=self.resumed_from,
            precision=self.precision,
            device=self.device,
        )

    def _step(self, step: int) -> float:
        torch, plan = self.torch, self.plan
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng((self.seed, epoch, 11)).permutation(self.train.rows)
        rows = order[place * plan.batch : (place + 1) * plan.batch]
        total = float(self.train.weight[rows].sum())
        mine = draw(rows, plan.augmentation, self.seed, step).of(self.group.rank, self.group.size)
        torch.manual_seed((self.seed * 1_000_003 + step * 64 + self.group.rank) % 2**63)
        for part in self.optimiser.param_groups:
            part["lr"] = plan.rate_at(step, self.steps) * part["factor"]
        self.network.train()
        target, known = self._tensor(self.train.target[mine.rows]), self._tensor(self.train.known[mine.rows])
        inputs = vary(self._inputs(self.train, mine.rows), mine, plan.augmentation)
        if plan.augmentation.mixup:
            inputs, target, known = self._mixed(mine, inputs, target, known)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            scores = self.wrapped(inputs)
        losses = row_losses(scores, target, known, self.train.loss, plan.smoothing)
        loss = (losses * self._tensor(self.train.weight[mine.rows])).sum() / max(total, 1e-9)
        self.optimiser.zero_grad(set_to_none=True)
        (loss * self.group.size).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), plan.clip)
        self.optimiser.step()
        if self.average is not None:
            # In the first steps the mean follows the weights closely, so that it never remembers the start.
            keep = min(plan.average, (1 + step) / (10 + step))
            for name, value in self._weights(copy=False).items():
                kept = self.average[name]
                if value.is_floating_point():
                    kept.lerp_(value, 1 - keep)
                else:
                    kept.copy_(value)
        return float(self.group.total(loss.detach().clone().to(self.group.device)).item())

    def _mixed(self, mine: Any, inputs: Any, target: Any, known: Any) -> tuple[Any, Any, Any]:
        """Mix inputs (where they are numbers) and targets with those of the partners."""
        if not inputs.is_floating_point():
            return inputs, target, known
        partner = vary(self._inputs(self.train, mine.partners), mine, self.plan.augmentation)
        share = self._tensor(mine.shares)
        wide = share.view(-1, *([1] * (inputs.dim() - 1)))
        inputs = wide * inputs + (1 - wide) * partner
        share = share[:, None]
        target = share * target + (1 - share) * self._tensor(self.train.target[mine.partners])
        return inputs, target, known * self._tensor(self.train.known[mine.partners])

    def _end_epoch(self, judge: Callable[[int, float], bool] | None) -> None:
        state, plan = self.state, self.plan
        epoch = state.step // self.per_epoch
        line = {
            "epoch": epoch,
            "train_loss": state.loss_sum / max(1, state.loss_steps),
            "rate": plan.rate_at(state.step - 1, self.steps),
        }
        state.loss_sum, state.loss_steps = 0.0, 0
        if self.valid is not None:
            loss = self._valid_loss()
            line["valid_loss"] = loss
            if loss < state.best_loss:
                state.best_loss, state.best_epoch = loss, epoch
                self.best = self._judged_weights()
            if plan.patience and epoch - state.best_epoch >= plan.patience:
                state.stopped = "patience"
            if judge is not None and not judge(epoch, loss):
                state.stopped = "pruned"
        state.history.append(line)

    def _valid_loss(self) -> float:
        assert self.valid is not None
        current = self._weights()
        self.network.load_state_dict(self._judged_weights())
        scores = predict(self.network, self.valid, self.group, device=self.device)
        self.network.load_state_dict(current)
        torch = self.torch
        losses = row_losses(
            torch.from_numpy(scores), torch.from_numpy(self.valid.target), torch.from_numpy(self.valid.known),
            self.valid.loss,
        )  # fmt: skip
        return float(np.average(losses.numpy().astype(np.float64), weights=self.valid.weight))

    def _out_of_budget(self, budget: Budget) -> bool:
        """Ask the budget, in all processes alike; without a finished epoch there is nothing to keep."""
        try:
            budget.check()
            ended = False
        except Cancelled:
            raise
        except BudgetStopped:
            ended = True
        if not self.group.any(ended):
            return False
        if not self.state.history:
            raise BudgetStopped(
                f"The budget of {budget.cpu_s:g} CPU-seconds ended before the first pass over the training rows.",
                code="MW2110",
                hint=f"--budget {max(1, round(budget.cpu_s * 3))}s",
            )
        self.state.stopped = "budget"
        return True

    def _take_best(self) -> None:
        self.network.load_state_dict(self.best if self.best is not None else self._judged_weights())

    def _judged_weights(self) -> dict[str, Any]:
        source = self.average if self.average is not None else self._weights(copy=False)
        return {name: value.clone() for name, value in source.items()}

    def _weights(self, *, copy: bool = True) -> dict[str, Any]:
        return {
            name: value.detach().clone() if copy else value.detach()
            for name, value in self.network.state_dict().items()
        }

    def _inputs(self, examples: Examples, rows: Rows) -> Any:
        return as_inputs(examples.inputs[rows], self.device)

    def _tensor(self, values: npt.NDArray[Any]) -> Any:
        return self.torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _progress(self, left_s: float) -> Progress:
        state = self.state
        last = state.history[-1] if state.history else {}
        mean = state.loss_sum / state.loss_steps if state.loss_steps else last.get("train_loss", float("nan"))
        return Progress(
            step=state.step, steps=self.steps, epoch=len(state.history), train_loss=mean,
            valid_loss=last.get("valid_loss"), left_s=left_s,
        )  # fmt: skip

    def _due(self, saving: Saving) -> bool:
        every = saving.every or self.per_epoch
        return self.group.leads and (self.state.step % every == 0 or self.state.step == self.steps)

    @cached_property
    def fingerprint(self) -> str:
        """Return what a checkpoint must agree with: plan, network, seed, and the content of the rows."""
        facts = {"plan": self.plan.to_json(), "spec": self.spec.to_json(), "seed": self.seed}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for part in (self.train, self.valid):
            for array in () if part is None else (part.inputs, part.target, part.known, part.weight):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _save(self, saving: Saving) -> None:
        tensors = {f"network/{name}": value for name, value in self._weights(copy=False).items()}
        for kind, weights in (("average", self.average), ("best", self.best)):
            tensors |= {f"{kind}/{name}": value for name, value in (weights or {}).items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
        write_checkpoint(saving.path, tensors, {"fingerprint": self.fingerprint, "run": self.state.__dict__})

    def resume(self, saving: Saving) -> None:
        """Go on from a checkpoint, if there is one."""
        found = read_checkpoint(saving.path)
        if found is None:
            return
        tensors, facts = found
        if facts["fingerprint"] != self.fingerprint:
            raise UsageError(
                f"The checkpoint {saving.path.name} belongs to other rows, another network or another plan.",
                code="MW1367",
                where=str(saving.path),
                hint=f"rm '{saving.path}', or name another file",
            )
        parts: dict[str, dict[str, Any]] = {"network": {}, "average": {}, "best": {}}
        moments: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optimiser":
                index, _, moment = rest.partition("/")
                moments.setdefault(int(index), {})[moment] = value
            else:
                parts[kind][rest] = value.to(self.device)
        self.network.load_state_dict(parts["network"])
        whole = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})
        self.average = parts["average"] or self.average
        self.best = parts["best"] or None
        self.state = _State(**facts["run"])
        if self.state.stopped == "budget":
            self.state.stopped = ""
        self.resumed_from = self.state.step


def _parameter_groups(network: Any, plan: Plan) -> list[dict[str, Any]]:
    """Part the parameters by weight decay (matrices only) and by learning rate (pretrained or new)."""
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for name, value in network.named_parameters():
        if value.requires_grad:
            groups.setdefault((value.dim() > 1, name.startswith("encoder.")), []).append(value)
    return [
        {"params": values, "weight_decay": plan.decay * matrix, "factor": plan.body_rate if body else 1.0}
        for (matrix, body), values in groups.items()
    ]
