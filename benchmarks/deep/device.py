"""The training loop on an accelerator: mixed precision against FP32, and going on from a checkpoint.

    python -m benchmarks.deep.device ROWS.npz --device cuda

ROWS holds ``pixels`` uint8 [n, side, side, 3] and ``labels`` [n]; every sixth row validates. Times are wall-clock
seconds of whole runs after one that warms up, the two precisions in turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelworks.core.budget import Budget
from modelworks.training.deep.examples import Examples
from modelworks.training.deep.loop import Progress, Saving, Trained, train_network
from modelworks.training.deep.networks import NetworkSpec
from modelworks.training.deep.plan import Augmentation, Plan
from modelworks.training.deep.prediction import predict


class Killed(Exception):
    """Ends a run in the middle, as a kill would."""


def examples(path: Path, side: int) -> tuple[Examples, Examples]:
    """Return training and validation rows at ``side`` x ``side`` pixels."""
    stored = np.load(path)
    pixels = torch.from_numpy(stored["pixels"]).permute(0, 3, 1, 2).float()
    pixels = torch.nn.functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    labels = stored["labels"].astype(np.int64)
    target = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    whole = Examples(
        inputs=pixels.round().clamp(0, 255).to(torch.uint8).numpy(), target=target, known=np.ones_like(target),
        weight=np.ones(len(labels), np.float32), loss="softmax",
    )  # fmt: skip
    held = np.arange(len(labels)) % 6 == 5
    return whole.take(np.flatnonzero(~held)), whole.take(np.flatnonzero(held))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    given = parser.parse_args()
    train, valid = examples(given.rows, given.side)
    spec = NetworkSpec(kind="image", outputs=train.outputs, width=given.width, depth=2, side=given.side)

    def plan(precision: Any, epochs: int) -> Plan:
        return Plan(
            epochs=epochs, batch=given.batch, precision=precision, device=given.device, rate=4e-3, threads=4,
            augmentation=Augmentation(flip=True, shift=0.1, colour=0.2),
        )  # fmt: skip

    def fit(
        precision: str, seed: int, epochs: int = given.epochs, **more: Any
    ) -> tuple[Trained, dict[str, Any]]:
        start = time.monotonic()
        found = train_network(
            spec, train, valid, plan(precision, epochs), budget=Budget(100_000), seed=seed, **more
        )
        took = time.monotonic() - start
        right = predict(found.network.to(given.device), valid, device=given.device).argmax(1)
        line = {
            "precision": found.precision, "device": found.device, "seed": seed, "steps": found.steps,
            "seconds": round(took, 2), "best_valid_loss": min(line["valid_loss"] for line in found.history),
            "valid_accuracy": float((right == valid.target.argmax(1)).mean()), "resumed_from": found.resumed_from,
        }  # fmt: skip
        print(json.dumps(line), flush=True)
        return found, line

    facts = {"torch": torch.__version__, "rows": train.rows, "valid": valid.rows, **spec.to_json()}
    if given.device == "cuda":
        facts["card"] = torch.cuda.get_device_name()
        from modelworks.training.deep.library import pick_precision

        facts["auto"] = pick_precision("auto", "cuda")
    print(json.dumps(facts), flush=True)
    for precision in ("fp32", "bf16"):
        fit(precision, 9, 1)
    lines = [fit(precision, seed)[1] for seed in (0, 1) for precision in ("fp32", "bf16")]
    spent = {
        name: sum(line["seconds"] for line in lines if line["precision"] == name) for name in ("fp32", "bf16")
    }
    print(json.dumps({"fp32_over_bf16": round(spent["fp32"] / spent["bf16"], 3)}), flush=True)

    epochs = 3
    whole, again = fit("bf16", 5, epochs)[0], fit("bf16", 5, epochs)[0]
    with tempfile.TemporaryDirectory() as folder:
        saving = Saving(path=Path(folder) / "run.safetensors", every=2)

        def kill(progress: Progress) -> None:
            if progress.step == progress.steps // 2:
                raise Killed

        try:
            fit("bf16", 5, epochs, saving=saving, report=kill)
        except Killed:
            print("killed in the middle", flush=True)
        resumed = fit("bf16", 5, epochs, saving=saving)[0]

    def apart(one: Trained, other: Trained) -> dict[str, float]:
        curves = zip(one.history, other.history, strict=True)
        weights = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
        return {
            "curve": max(abs(a["valid_loss"] - b["valid_loss"]) for a, b in curves),
            "weights": max(float((a.float().cpu() - b.float().cpu()).abs().max()) for a, b in weights),
        }

    print(json.dumps({"resumed_from": resumed.resumed_from, "steps": resumed.steps}), flush=True)
    print(json.dumps({"same_seed_twice": apart(whole, again), "resumed": apart(whole, resumed)}), flush=True)


if __name__ == "__main__":
    main()
