"""How much a frozen encoder says: ridge classifiers on pooled maps, cross-validated on training rows of real sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

LEVELS = (1, 2, 3)
FOLDS = 3


def read_probes(folder: Path, device: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the sets ``NAME.npz`` of a folder: pixels ``uint8 [n, 3, s, s]`` and labels ``int64 [n]``."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        stored = np.load(path)
        pixels = torch.from_numpy(stored["pixels"]).permute(0, 3, 1, 2)
        found[path.stem] = (
            pixels.expand(-1, 3, -1, -1).to(device), torch.from_numpy(stored["labels"].astype(np.int64)).to(device)
        )  # fmt: skip
    return found


@torch.inference_mode()
def features(encoder: nn.Module, pixels: torch.Tensor, side: int, pools: int = 2) -> torch.Tensor:
    """Return the maps of the last stages, averaged over ``pools`` x ``pools`` fields, as rows."""
    parts = []
    for start in range(0, len(pixels), 500):
        chunk = pixels[start : start + 500].float() / 127.5 - 1
        chunk = functional.interpolate(chunk, size=(side, side), mode="bilinear", antialias=True)
        maps = encoder(chunk.contiguous(memory_format=torch.channels_last))
        pooled = [functional.adaptive_avg_pool2d(maps[level].float(), pools).flatten(1) for level in LEVELS]
        parts.append(torch.sqrt(torch.cat(pooled, 1)))
    return torch.cat(parts)


def accuracy(rows: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the cross-validated accuracy of a ridge classifier at its best regularisation."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).to(rows.device)
    rows, labels = rows[order].double(), labels[order]
    target = functional.one_hot(labels).double()
    fold = torch.arange(len(rows), device=rows.device) % FOLDS
    right = torch.zeros(8, device=rows.device)
    for held in range(FOLDS):
        train = fold != held
        mean, spread = rows[train].mean(0), rows[train].std(0) + 1e-3
        inside, outside = (rows[train] - mean) / spread, (rows[~train] - mean) / spread
        gram = inside @ inside.T / inside.shape[1]
        strength = 10.0 ** (torch.arange(len(right), device=rows.device, dtype=torch.float64) / 2 - 1)
        eye = torch.eye(len(gram), device=rows.device, dtype=torch.float64)
        factor = torch.linalg.cholesky(gram + strength[:, None, None] * eye)
        middle = target[train] - target[train].mean(0)
        solved = torch.cholesky_solve(middle.expand(len(right), -1, -1), factor)
        scores = (outside @ inside.T / inside.shape[1]) @ solved + target[train].mean(0)
        right += (scores.argmax(2) == labels[~train]).sum(1)
    return float(right.max() / len(rows))


def probed(
    encoder: nn.Module, sets: dict[str, tuple[torch.Tensor, torch.Tensor]], side: int
) -> dict[str, float]:
    """Return the accuracy on every set."""
    encoder.eval()
    found = {
        name: accuracy(features(encoder, pixels, side), labels) for name, (pixels, labels) in sets.items()
    }
    encoder.train()
    return {name: round(value, 4) for name, value in found.items()}
