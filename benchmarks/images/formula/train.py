"""Train the encoder that ships with Modelworks on pictures made by formulas alone.

    python -m benchmarks.images.formula.train --work FOLDER --steps 15000
    python -m benchmarks.images.formula.rows FOLDER/probes
    python -m benchmarks.images.formula.train --work FOLDER --seconds 400 --race 20 --probes FOLDER/probes \\
        --objectives contrast_mix_plain,contrast_mix_plain_pairs --pictures gallery --widths 32,64,192,448
    python -m benchmarks.images.formula.export FOLDER/encoder.pt

The seed draws pictures, views and weights; sums on a GPU are not taken in a fixed order, so two runs give networks of
the same worth, not the same bits. With several objectives each runs for ``--race`` seconds, and the one that the probes
(training rows of real sets) like best is trained.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.images.formula.gallery import leaves, make_pairs
from benchmarks.images.formula.network import BLOCKS, SIDE, WIDTHS, Trained, contrast, found_by, regularised
from benchmarks.images.formula.probe import probed, read_probes
from benchmarks.images.formula.views import mixed, view

CANVAS = 96
LEVELS = (0.25, 0.5, 1.0)
RATE, DECAY, WARMUP = 2e-3, 0.02, 300
REPLACED = 16
"""Steps after which the oldest pictures give way to as many new ones as a batch has."""
SMALL = 32
"""Side of a small view, pixels."""


PICTURES = {"leaves": leaves, "gallery": make_pairs}


class Pool:
    """Pairs of pictures held on the device; it grows, and then the oldest give way to new ones."""

    def __init__(self, size: int, first: int, chunk: int, device: str, kind: str) -> None:
        self.make = PICTURES[kind]
        self.held = torch.empty(size, 2, 3, CANVAS, CANVAS, dtype=torch.uint8, device=device)
        self.drawn, self.chunk, self.device = 0, chunk, device
        while self.drawn < first:
            self.replace()

    def replace(self) -> None:
        """Put new pairs behind those held, or in the place of the oldest."""
        start = self.drawn % (len(self.held) // self.chunk * self.chunk)
        self.held[start : start + self.chunk] = self.make(self.chunk, CANVAS, self.device)
        self.drawn += self.chunk

    def draw(self, count: int) -> torch.Tensor:
        """Return pairs at random."""
        held = min(self.drawn, len(self.held) // self.chunk * self.chunk)
        return self.held[torch.randint(held, (count,), device=self.device)]


def widths_of(text: str) -> list[int]:
    """Return channels written as ``32,64,128,256``."""
    return [int(width) for width in text.split(",")]


def loss_of(network: Trained, pairs: torch.Tensor, objective: str) -> torch.Tensor:
    """Return the loss of a batch of pairs of pictures (``uint8 [n, 2, 3, s, s]``)."""
    device = str(pairs.device)
    pictures = mixed(pairs) if "mix" in objective else pairs.float() / 255
    light = 0.5 if "plain" in objective else 1.0
    one, other = pictures[:, 0], pictures[:, 0]
    if "pairs" in objective:
        other = pictures[:, 1]
    kind = "cuda" if device.startswith("cuda") else "cpu"

    def looked(views: list[torch.Tensor]) -> list[torch.Tensor]:
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            found: list[torch.Tensor] = network(
                torch.cat(views).contiguous(memory_format=torch.channels_last)
            )
        return found

    large = looked([view(one, SIDE, colour=light), view(other, SIDE, colour=light)])
    compare = regularised if "vicreg" in objective else contrast
    losses = [compare(*level.chunk(2)) for level in large]
    if "crops" in objective:
        small = looked(
            [view(side, SMALL, colour=light, smallest=0.05, largest=0.25) for side in (other, one)]
        )
        for place, (part, whole) in enumerate(zip(small, large, strict=True)):
            crossed = [found_by(*two) for two in zip(part.chunk(2), whole.chunk(2), strict=True)]
            losses[place] = losses[place] + 0.5 * torch.stack(crossed).mean()
    return torch.stack([weight * loss for weight, loss in zip(LEVELS, losses, strict=True)]).sum()


def run(
    given: argparse.Namespace, pool: Pool, objective: str, seconds: float, steps: int, name: str
) -> dict[str, Any]:
    """Train one encoder for a number of steps (or seconds) and write it to the work folder; return the last probe."""
    device = pool.device
    torch.manual_seed(given.seed)
    network = Trained(128 if "vicreg" not in objective else 1024, widths_of(given.widths))
    network.to(device, memory_format=torch.channels_last)
    decayed = [value for value in network.parameters() if value.dim() > 1]
    rest = [value for value in network.parameters() if value.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    sets = read_probes(given.probes, device) if given.probes else {}
    start = saved = time.monotonic()
    step, done, lines = 0, 0.0, []
    while done < 1:
        rate = RATE * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * done))
        for part in optimiser.param_groups:
            part["lr"] = rate
        if step % REPLACED == 0:
            pool.replace()
        loss = loss_of(network, pool.draw(given.batch), objective)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        step += 1
        if device == "cuda" and step % 8 == 0:
            torch.cuda.synchronize()
        now = time.monotonic()
        done = min(1.0, step / steps if steps else (now - start) / seconds)
        if done >= 1 or now - saved > given.every:
            line = {
                "objective": objective, "step": step, "done": round(done, 3), "loss": round(loss.detach().item(), 4),
                "seconds": round(now - start, 1), "views_per_s": round(2 * given.batch * step / (now - start)),
                "pictures": pool.drawn, **probed(network.encoder, sets, SIDE),
            }  # fmt: skip
            lines.append(line)
            print(json.dumps(line), flush=True)
            _save(given.work / f"{name}.pt", network, lines, given)
            saved = time.monotonic()
    return lines[-1]


def _save(path: Path, network: Trained, lines: list[dict[str, Any]], given: argparse.Namespace) -> None:
    """Write weights in 16 bits (they ship in 8), norms as they are."""
    state = {
        name: (value.half() if value.dim() > 1 else value).cpu()
        for name, value in network.encoder.state_dict().items()
    }
    facts: dict[str, Any] = {"seed": given.seed, "batch": given.batch, "pool": given.pool}
    facts |= {"torch": str(torch.__version__), "drawn": given.pictures, "blocks": list(BLOCKS)}
    facts["widths"] = widths_of(given.widths)
    facts["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    draft = path.with_suffix(".part")
    torch.save({"encoder": state, "lines": lines, "facts": facts}, draft)
    draft.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--probes", type=Path, help="folder of training rows of real sets, to watch progress and to choose"
    )
    parser.add_argument(
        "--objectives",
        default="contrast_mix_plain",
        help="contrast or vicreg, with _mix (mixed pictures), _plain (half the change of colour), _pairs (a thing "
        "drawn twice), _crops (small views as well); comma separated",
    )
    parser.add_argument(
        "--pictures", choices=sorted(PICTURES), default="leaves",
        help="leaves only, or solids, strokes and what untrained networks draw as well",
    )  # fmt: skip
    parser.add_argument(
        "--widths", default=",".join(str(width) for width in WIDTHS), help="channels of the maps"
    )
    parser.add_argument("--race", type=float, default=20, help="seconds for each of several objectives")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=300, help="where no steps are given")
    parser.add_argument("--until", type=float, default=0, help="seconds after the start at which all ends")
    parser.add_argument("--every", type=float, default=60, help="seconds between checkpoints")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--pool", type=int, default=131_072)
    parser.add_argument("--first", type=int, default=32_768, help="pairs drawn before training")
    parser.add_argument("--name", default="encoder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.monotonic()
    given.work.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(given.seed)
    pool = Pool(given.pool, given.first, given.batch, device, given.pictures)
    if device == "cuda":
        torch.cuda.synchronize()
    took = time.monotonic() - start
    print(json.dumps({"pairs": pool.drawn, "seconds": round(took, 1)}), flush=True)
    objectives = given.objectives.split(",")
    if len(objectives) > 1:
        found = {name: run(given, pool, name, given.race, 0, "race") for name in objectives}
        names = [path.stem for path in sorted(given.probes.glob("*.npz"))]
        objectives = [max(found, key=lambda name: sum(found[name][one] for one in names))]
        print("chosen", objectives[0], flush=True)
    seconds = given.until - (time.monotonic() - start) if given.until else given.seconds
    run(given, pool, objectives[0], seconds, given.steps, given.name)


if __name__ == "__main__":
    main()
