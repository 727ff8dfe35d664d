"""Variation of training inputs as tensors: drawn for the whole batch by its number, so that processes agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.training.deep.library import load_torch
from modelworks.training.deep.plan import Augmentation

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """The random choices of one batch.

    Attributes:
        rows: Row of the examples per place of the batch.
        partners: Row that each place is mixed with.
        shares: Share of the row itself in the mixture.
        uniform: ``float64 [places, 12]`` in [0, 1): what the variation of each place is made of.
        seed: Seed of noise per place.
    """

    rows: npt.NDArray[np.int64]
    partners: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float32]
    uniform: Doubles
    seed: int

    def of(self, rank: int, size: int) -> Draw:
        """Return the places of one process out of ``size``."""
        part = slice(rank, None, size)
        return Draw(
            self.rows[part], self.partners[part], self.shares[part], self.uniform[part], self.seed + rank
        )


def draw(rows: npt.NDArray[np.int64], augmentation: Augmentation, seed: int, step: int) -> Draw:
    """Draw the variation of the batch ``rows`` of step ``step``; a function of its arguments alone."""
    rng = np.random.default_rng((seed, step, 77))
    shares = np.ones(len(rows), np.float32)
    partners = rows
    if augmentation.mixup > 0:
        found = rng.beta(augmentation.mixup, augmentation.mixup, len(rows))
        shares = np.maximum(found, 1 - found).astype(np.float32)
        partners = rows[rng.permutation(len(rows))]
    return Draw(rows, partners, shares, rng.random((len(rows), 12)), int(rng.integers(2**31)))


def vary(inputs: Any, drawn: Draw, augmentation: Augmentation) -> Any:
    """Vary a batch: float images ``[n, 3, h, w]``, series ``[n, channels, t]``, texts ``[n, t]`` or ``[n, 2, t]``.

    Source: DeVries & Taylor (2017), Cutout; Um et al. (2017), Data augmentation of wearable sensor data (jitter,
    scaling, shifting); Iyyer et al. (2015), Deep averaging networks (word dropout).
    """
    if not inputs.is_floating_point():
        return _blanked(inputs, drawn, augmentation)
    if inputs.dim() == 4:
        return _cut_images(
            _coloured(_moved(inputs, drawn, augmentation), drawn, augmentation), drawn, augmentation
        )
    return _varied_series(inputs, drawn, augmentation)


def _moved(images: Any, drawn: Draw, how: Augmentation) -> Any:
    """Mirror, move, zoom and turn in one sampling; what comes from outside is mirrored at the border."""
    if not (how.flip or how.shift or how.zoom or how.turn):
        return images
    torch = load_torch()
    u = drawn.uniform
    angle = (2 * u[:, 0] - 1) * how.turn * math.pi / 180
    size = np.exp((2 * u[:, 1] - 1) * math.log1p(how.zoom))
    mirror = np.where((u[:, 2] < 0.5) & how.flip, -1.0, 1.0)
    theta = np.empty((len(u), 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * np.cos(angle) / size, -np.sin(angle) / size
    theta[:, 1, 0], theta[:, 1, 1] = mirror * np.sin(angle) / size, np.cos(angle) / size
    theta[:, 0, 2], theta[:, 1, 2] = (4 * u[:, 3] - 2) * how.shift, (4 * u[:, 4] - 2) * how.shift
    grid = torch.nn.functional.affine_grid(
        torch.from_numpy(theta).to(images.device), list(images.shape), align_corners=False
    )
    moved = torch.nn.functional.grid_sample(
        images, grid.to(images.dtype), padding_mode="reflection", align_corners=False
    )
    return moved.contiguous(memory_format=torch.channels_last)


def _coloured(images: Any, drawn: Draw, how: Augmentation) -> Any:
    if not how.colour:
        return images
    brightness, contrast, saturation = (_column(images, drawn, place, how.colour) for place in (5, 6, 7))
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (1 + saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (1 + contrast) + brightness


def _cut_images(images: Any, drawn: Draw, how: Augmentation) -> Any:
    if not how.cutout:
        return images
    torch = load_torch()
    height, width = images.shape[2:]
    top, left = (torch.from_numpy(drawn.uniform[:, place]).to(images.device) for place in (8, 9))
    down = (torch.arange(height, device=images.device)[None] - (top * height)[:, None]).abs()
    across = (torch.arange(width, device=images.device)[None] - (left * width)[:, None]).abs()
    inside = (down < how.cutout * height / 2)[:, :, None] & (across < how.cutout * width / 2)[:, None, :]
    return images.masked_fill(inside[:, None], 0.0)


def _varied_series(series: Any, drawn: Draw, how: Augmentation) -> Any:
    torch = load_torch()
    length = series.shape[2]
    if how.shift:
        offset = torch.from_numpy(
            np.round((2 * drawn.uniform[:, 0] - 1) * how.shift * length).astype(np.int64)
        )
        places = (torch.arange(length)[None] + offset[:, None]).clamp(0, length - 1).to(series.device)
        series = series.gather(2, places[:, None].expand(-1, series.shape[1], -1))
    noise = torch.Generator().manual_seed(drawn.seed)
    if how.scale:
        factor = 1 + how.scale * torch.randn(series.shape[0], series.shape[1], 1, generator=noise)
        series = series * factor.to(series.device)
    if how.noise:
        series = series + how.noise * torch.randn(series.shape, generator=noise).to(series.device)
    if how.cutout:
        start = torch.from_numpy(drawn.uniform[:, 8] * length).to(series.device)
        away = torch.arange(length, device=series.device)[None] - start[:, None]
        series = series.masked_fill(((away >= 0) & (away < how.cutout * length))[:, None], 0.0)
    return series


def _blanked(codes: Any, drawn: Draw, how: Augmentation) -> Any:
    """Blank single characters or tokens; id 1 is the unknown character, and attention is not touched."""
    if not how.noise:
        return codes
    torch = load_torch()
    noise = torch.Generator().manual_seed(drawn.seed)
    if codes.dim() == 2:
        hit = torch.rand(codes.shape, generator=noise).to(codes.device) < how.noise
        return codes.masked_fill(hit & (codes > 0), 1)
    hit = torch.rand(codes[:, 1].shape, generator=noise).to(codes.device) < how.noise
    hit[:, 0] = False
    kept = codes[:, 1] * (~hit)
    return torch.stack([codes[:, 0], kept], dim=1)


def _column(images: Any, drawn: Draw, place: int, reach: float) -> Any:
    torch = load_torch()
    values = ((2 * drawn.uniform[:, place] - 1) * reach).astype(np.float32)
    return torch.from_numpy(values).to(images.device).view(-1, 1, 1, 1)


def mirrors_keep_labels(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], *, most: int = 600
) -> bool:
    """Say whether mirrored images still look most like their own class.

    Each image, and its mirror image, asks its nearest neighbours among the others, on small grey pictures. When
    the mirror images find their class nearly as often as the originals do, mirroring changes no label; digits,
    letters and left-or-right tasks fail this.

    Args:
        images: ``uint8 [n, 3, side, side]``.
        labels: Class codes.
        most: Images that are looked at.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, most).astype(np.int64))
    side = images.shape[2] // 8 * 8
    grey = images[chosen, :, :side, :side].mean(axis=1, dtype=np.float32)
    small = grey.reshape(len(chosen), 8, side // 8, 8, side // 8).mean(axis=(2, 4))
    codes = labels[chosen]

    def agreement(queries: npt.NDArray[np.float32]) -> float:
        points = _unit(small.reshape(len(chosen), -1))
        likeness = _unit(queries.reshape(len(chosen), -1)) @ points.T
        np.fill_diagonal(likeness, -np.inf)
        nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :3]
        return float(np.mean(codes[nearest] == codes[:, None]))

    chance = float(np.square(np.bincount(codes) / len(codes)).sum())
    plain, mirrored = agreement(small), agreement(small[:, :, ::-1])
    return mirrored - chance >= 0.8 * (plain - chance)


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-6))
