"""One training run as a folder: what ``torchrun`` starts in every process, and what survives a killed one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelworks.core.budget import Budget
from modelworks.core.errors import JobCrashed, ModelworksError
from modelworks.training.deep.checkpoint import read_checkpoint, write_checkpoint
from modelworks.training.deep.examples import Examples
from modelworks.training.deep.group import joined
from modelworks.training.deep.library import pick_device
from modelworks.training.deep.loop import Progress, Saving, train_network
from modelworks.training.deep.networks import NetworkSpec
from modelworks.training.deep.plan import Plan

JOB, TRAIN, VALID = "job.json", "train.safetensors", "valid.safetensors"
CHECKPOINT, WEIGHTS, RESULT, ERROR = (
    "checkpoint.safetensors",
    "weights.safetensors",
    "result.json",
    "error.json",
)


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A training run that is written down.

    Attributes:
        spec: The network.
        plan: How it is trained.
        seed: Seed of every random choice.
        budget_s: CPU-seconds of each process.
        every: Steps between checkpoints; 0 = after every epoch.
    """

    spec: NetworkSpec
    plan: Plan
    seed: int = 0
    budget_s: float = 600.0
    every: int = 0

    def write(self, folder: Path, train: Examples, valid: Examples | None) -> None:
        """Write the job and its rows to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        train.save(folder / TRAIN)
        if valid is not None:
            valid.save(folder / VALID)
        data = {
            "spec": self.spec.to_json(),
            "plan": self.plan.to_json(),
            "seed": self.seed,
            "budget_s": self.budget_s,
            "every": self.every,
        }
        (folder / JOB).write_text(json.dumps(data), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> TrainingJob:
        """Read what ``write`` wrote."""
        data = json.loads((folder / JOB).read_text(encoding="utf-8"))
        spec, plan = NetworkSpec(**data.pop("spec")), Plan.from_json(data.pop("plan"))
        return TrainingJob(spec=spec, plan=plan, **data)


def run_job(folder: Path) -> dict[str, Any]:
    """Run, or go on with, the job of a folder in this process; the leading process writes weights and result."""
    job = TrainingJob.read(folder)
    train = Examples.load(folder / TRAIN)
    valid = Examples.load(folder / VALID) if (folder / VALID).exists() else None
    with joined(pick_device(job.plan.device)) as group:
        trained = train_network(
            job.spec, train, valid, job.plan, budget=Budget(job.budget_s), seed=job.seed, group=group,
            saving=Saving(path=folder / CHECKPOINT, every=job.every),
            report=_say if group.leads else None,
        )  # fmt: skip
        result = {**trained.to_json(), "processes": group.size}
        if group.leads:
            write_checkpoint(folder / WEIGHTS, trained.network.state_dict(), {"seed": job.seed})
            (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")
    return result


def trained_network(folder: Path) -> Any:
    """Return the network that a finished job wrote, in evaluation mode."""
    found = read_checkpoint(folder / WEIGHTS)
    assert found is not None, "the job has not ended"
    network = TrainingJob.read(folder).spec.build()
    network.load_state_dict(found[0])
    return network.eval()


def launch(folder: Path, processes: int, *, timeout_s: float = 3600.0) -> dict[str, Any]:
    """Run the job of a folder in several processes of this machine that train one model together.

    Every process sees its part of each batch; gradients and batch statistics are those of the whole batch. On another
    machine the same command runs under ``torchrun --nnodes``.

    Returns:
        The result, as in ``result.json``.

    Raises:
        ModelworksError: What the leading process raised.
        JobCrashed: The processes ended without a result.
    """
    (folder / RESULT).unlink(missing_ok=True)
    (folder / ERROR).unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--nnodes", "1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
        "-m", "modelworks.training.deep.job", str(folder),
    ]  # fmt: skip
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if (folder / ERROR).exists():
        raise ModelworksError.from_json(json.loads((folder / ERROR).read_text(encoding="utf-8")))
    if ended.returncode or not (folder / RESULT).exists():
        raise JobCrashed(
            f"{processes} training processes ended with exit {ended.returncode}: {ended.stderr[-600:]}",
            code="MW5310",
            hint="run the same command again; it goes on from the checkpoint",
        )
    result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return result


def _say(progress: Progress) -> None:
    line = {
        "step": progress.step,
        "steps": progress.steps,
        "loss": progress.train_loss,
        "left_s": progress.left_s,
    }
    print(json.dumps(line), flush=True)


def main() -> int:
    """Run the job named on the command line."""
    folder = Path(sys.argv[1])
    try:
        run_job(folder)
    except ModelworksError as error:
        (folder / ERROR).write_text(json.dumps(error.to_json()), encoding="utf-8")
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
