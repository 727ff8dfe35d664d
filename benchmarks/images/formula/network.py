"""The encoder: a narrow residual network whose maps at strides 2, 4, 8 and 16 are all of use; and what trains it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (32, 64, 128, 256)
"""Channels of the maps of the network that ships."""
BLOCKS = (1, 1, 2, 1)
SIDE = 64


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        nn.init.constant_(self.norm2.weight, 0.2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norm1(self.first(values)))
        return functional.relu(values + self.norm2(self.second(inner)))


class Down(nn.Module):
    """A convolution of stride two."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.convolution(values)))


class Encoder(nn.Module):
    """Pixels ``[n, 3, side, side]`` in [-1, 1] to four maps."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.widths = tuple(widths)
        stages, before = [], 3
        for width, blocks in zip(widths, BLOCKS, strict=True):
            stages.append(nn.Sequential(Down(before, width), *(Block(width) for _ in range(blocks))))
            before = width
        self.stages = nn.ModuleList(stages)

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for stage in self.stages:
            pixels = stage(pixels)
            maps.append(pixels)
        return maps


class Trained(nn.Module):
    """The encoder, and a projection of the pooled maps of the last three stages into the space of the loss."""

    def __init__(self, wide: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.encoder = Encoder(widths)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, 1024, bias=False), nn.BatchNorm1d(1024), nn.ReLU(), nn.Linear(1024, wide)
            )
            for width in widths[1:]
        )

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        maps = self.encoder(pixels)[1:]
        return [head(found.mean((2, 3))) for head, found in zip(self.heads, maps, strict=True)]


def contrast(first: torch.Tensor, second: torch.Tensor, temperature: float = 0.15) -> torch.Tensor:
    """Return the loss of two views ``[n, d]`` that must find each other among all.

    Source: Chen et al. (2020), A simple framework for contrastive learning of visual representations.
    """
    both = functional.normalize(torch.cat([first, second]).float(), dim=1)
    likeness = both @ both.T / temperature
    likeness.fill_diagonal_(-1e4)
    half = len(first)
    target = torch.arange(2 * half, device=both.device).roll(half)
    return functional.cross_entropy(likeness, target)


def found_by(parts: torch.Tensor, whole: torch.Tensor, temperature: float = 0.15) -> torch.Tensor:
    """Return the loss of small views ``[k * n, d]`` that must find the large view of their picture, ``[n, d]``.

    Source: Caron et al. (2020), Unsupervised learning of visual features by contrasting cluster assignments (crops).
    """
    parts = functional.normalize(parts.float(), dim=1)
    likeness = parts @ functional.normalize(whole.float(), dim=1).T / temperature
    target = torch.arange(len(whole), device=parts.device).repeat(len(parts) // len(whole))
    return functional.cross_entropy(likeness, target)


def regularised(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the loss of two views that must agree, vary, and vary in every direction.

    Source: Bardes, Ponce & LeCun (2022), VICReg.
    """
    first, second = first.float(), second.float()
    loss = 25 * functional.mse_loss(first, second)
    for view in (first, second):
        centred = view - view.mean(0)
        loss = loss + 12.5 * functional.relu(1 - torch.sqrt(centred.var(0) + 1e-4)).mean()
        covariance = centred.T @ centred / (len(view) - 1)
        loss = loss + (covariance.square().sum() - covariance.diagonal().square().sum()) / view.shape[1]
    return loss / 10
