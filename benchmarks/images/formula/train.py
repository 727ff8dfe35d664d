"""Train the encoder that ships with Modelworks on pictures made by formulas alone.

    python -m benchmarks.images.formula.train --work FOLDER --steps 9000 --probes FOLDER
    python -m benchmarks.images.formula.export FOLDER/encoder.pt

The seed draws pictures, views and weights; sums on a GPU are not taken in a fixed order, so two runs give networks of
the same worth, not the same bits. ``--seconds`` turns a stretch of time into steps after measuring their speed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.images.formula.network import SIDE, Trained, contrast, regularised
from benchmarks.images.formula.pictures import make_pictures
from benchmarks.images.formula.probe import probed, read_probes
from benchmarks.images.formula.views import mixed, view

CANVAS = 96
LEVELS = (0.25, 0.5, 1.0)
RATE, DECAY, WARMUP = 2e-3, 0.02, 0.05
REPLACED = 12
"""A picture is used about as often before it gives way to a new one."""


class Pool:
    """Pictures held on the device; the oldest give way to new ones."""

    def __init__(self, size: int, chunk: int, device: str) -> None:
        self.held = torch.empty(size, 3, CANVAS, CANVAS, dtype=torch.uint8, device=device)
        self.next, self.chunk, self.device = 0, chunk, device
        for _ in range(size // chunk):
            self.replace()

    def replace(self) -> None:
        """Put new pictures in the place of the oldest."""
        self.held[self.next : self.next + self.chunk] = make_pictures(self.chunk, CANVAS, self.device)
        self.next = (self.next + self.chunk) % (len(self.held) // self.chunk * self.chunk)

    def draw(self, count: int) -> torch.Tensor:
        """Return pictures at random."""
        return self.held[torch.randint(len(self.held), (count,), device=self.device)]


def run(given: argparse.Namespace, pool: Pool, objective: str, seconds: float, steps: int) -> dict[str, Any]:
    """Train one encoder and write it to the work folder; return what was measured."""
    device = pool.device
    torch.manual_seed(given.seed)
    network = Trained(128 if objective != "vicreg" else 1024).to(device, memory_format=torch.channels_last)
    decayed = [value for value in network.parameters() if value.dim() > 1]
    rest = [value for value in network.parameters() if value.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    loss_of = regularised if objective == "vicreg" else contrast
    sets = read_probes(given.probes, device) if given.probes else {}
    start = saved = time.monotonic()
    step, total, away, lines = 0, steps or 10**9, 0.0, []
    while step < total:
        done = min(1.0, step / total)
        rate = (
            RATE
            * min(1.0, (step + 1) / max(1, min(500, WARMUP * total)))
            * 0.5
            * (1 + math.cos(math.pi * done))
        )
        for part in optimiser.param_groups:
            part["lr"] = rate
        if step % REPLACED == 0:
            pool.replace()
        raw = pool.draw(given.batch)
        pictures = mixed(raw) if "mix" in objective else raw.float() / 255
        light = 0.5 if "plain" in objective else 1.0
        views = torch.cat([view(pictures, SIDE, colour=light), view(pictures, SIDE, colour=light)])
        views = views.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            found = network(views)
        loss = sum(
            weight * loss_of(*level.chunk(2)) for weight, level in zip(LEVELS, found, strict=True)
        )  # fmt: skip
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        step += 1
        if not steps and step == 60:
            if device == "cuda":
                torch.cuda.synchronize()
            before = time.monotonic() - start
        if not steps and step == 160:
            if device == "cuda":
                torch.cuda.synchronize()
            each = (time.monotonic() - start - before) / 100
            total = max(200, 160 + int((seconds - (time.monotonic() - start)) / each))
        now = time.monotonic()
        if now - saved - away > given.every or step == total:
            line = {
                "objective": objective, "step": step, "steps": total, "loss": round(loss.detach().item(), 4),
                "seconds": round(now - start, 1), "views_per_s": round(2 * given.batch * step / (now - start)),
                **probed(network.encoder, sets, SIDE),
            }  # fmt: skip
            lines.append(line)
            print(json.dumps(line), flush=True)
            _save(given.work / f"{given.name or objective}.pt", network, lines, given)
            away, saved = 0.0, time.monotonic()
    return lines[-1]


def _save(path: Path, network: Trained, lines: list[dict[str, Any]], given: argparse.Namespace) -> None:
    state = {name: value.cpu() for name, value in network.encoder.state_dict().items()}
    facts = {"seed": given.seed, "batch": given.batch, "pool": given.pool, "torch": str(torch.__version__)}
    facts["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    draft = path.with_suffix(".part")
    torch.save({"encoder": state, "lines": lines, "facts": facts}, draft)
    draft.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--probes", type=Path, help="folder of training rows of real sets, to watch progress only"
    )
    parser.add_argument(
        "--objectives",
        default="contrast_mix_plain",
        help="contrast or vicreg, with _mix (mixed pictures) and _plain (half the change of colour); comma separated",
    )
    parser.add_argument(
        "--chosen", type=Path, help="file that names the objective; written after a comparison"
    )
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--every", type=float, default=60, help="seconds between checkpoints")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--pool", type=int, default=131_072)
    parser.add_argument("--name", default="")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(given.seed)
    start = time.monotonic()
    pool = Pool(given.pool, given.batch, device)
    if device == "cuda":
        torch.cuda.synchronize()
    took = time.monotonic() - start
    print(
        json.dumps({"pictures": given.pool, "seconds": round(took, 1), "per_s": round(given.pool / took)}),
        flush=True,
    )
    objectives = given.objectives.split(",")
    if len(objectives) == 1 and given.chosen and given.chosen.is_file():
        objectives = [given.chosen.read_text(encoding="utf-8").strip()]
    found = {name: run(given, pool, name, given.seconds, given.steps) for name in objectives}
    if len(objectives) > 1 and given.chosen:
        names = [path.stem for path in sorted(given.probes.glob("*.npz"))]
        best = max(found, key=lambda name: sum(found[name][one] for one in names))
        given.chosen.write_text(best, encoding="utf-8")
        print("chosen", best, flush=True)


if __name__ == "__main__":
    main()
