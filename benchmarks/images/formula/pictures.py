"""Colour pictures made by formulas alone: textured, shaded leaves of many shapes that cover one another, over a ground.

Sources: Lee, Mumford & Huang (2001), Occlusion models for natural images (dead leaves); Baradad et al. (2021),
Learning to see by looking at noise; Kataoka et al. (2022), Replacing labeled real-image datasets with auto-generated
contours.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from benchmarks.images.formula.fields import cells, fractals, grid, programs, spectra, standardised, uniform

LEAVES = 22


def make_pictures(count: int, side: int, device: str) -> torch.Tensor:
    """Return ``uint8 [count, 3, side, side]`` drawn from PyTorch's generator of the device."""
    texture = textures(count, side, device)
    picture = texture[torch.randperm(count, device=device)]
    x, y = grid(side, device)
    shape = (count, 1, 1, 1)
    plain = torch.rand(*shape, device=device) < 0.3
    flat = _colours(count, 1, device).view(count, 3, 1, 1)
    picture = torch.where(plain, flat + 0.12 * (picture - 0.5), picture)
    most = torch.exp(uniform(0.3, math.log(LEAVES), *shape, device=device))
    power = uniform(1.2, 2.6, *shape, device=device)
    largest = uniform(0.35, 1.0, *shape, device=device)
    kind = uniform(0, 1, *shape, device=device)
    mirrored = torch.rand(*shape, device=device) < 0.2
    base, spread = _colours(count, 1, device).view(count, 3, 1, 1), uniform(0.1, 1, *shape, device=device)
    lit = uniform(0, 2 * math.pi, *shape, device=device)
    for leaf in range(LEAVES):
        last = leaf == LEAVES - 1
        here = (LEAVES - leaf) <= most
        size = largest * (1 + torch.rand(*shape, device=device) * (6.0**power - 1)) ** (-1 / power)
        middle = 1.1
        if last:
            thing = torch.rand(*shape, device=device) < 0.4
            size, middle = torch.where(thing, largest, size), torch.where(thing, 0.3, 1.1)
        level, u, v = _outline(x, y, size, middle, kind, mirrored)
        edge = side / 2 * size * torch.exp(uniform(-1.2, 1.0, *shape, device=device)).clamp_max(1.5)
        mask = torch.sigmoid((1 - level) * edge) * here
        shadow = (
            torch.sigmoid((1.15 - level.roll((2, 2), (2, 3))) * 6)
            * here
            * uniform(0, 0.6, *shape, device=device)
        )
        inside = _filled(texture, base, spread, count, device)
        round_ = torch.sqrt((1 - level.clamp(0, 1) ** 2) + 0.05)
        slope = (u * torch.cos(lit) + v * torch.sin(lit)).clamp(-1.5, 1.5)
        bulge, light = uniform(0, 0.7, *shape, device=device), uniform(0, 0.45, *shape, device=device)
        rim = uniform(-0.4, 0.2, *shape, device=device) * torch.exp(-(((level - 1) * edge / 2) ** 2))
        inside = inside * (1 - bulge + bulge * round_ + light * slope) + rim
        picture = picture * (1 - 0.7 * shadow * (1 - mask))
        picture = picture * (1 - mask) + inside * mask
    return photographed(picture, device)


def textures(count: int, side: int, device: str) -> torch.Tensor:
    """Return coloured fields in about [0, 1], ``[count, 3, side, side]``."""
    many = [count * 35 // 100, count * 15 // 100, count // 10]
    ground = spectra(max(1, many[2]), 3, side, device)
    density = fractals(max(1, many[2]), side, device)
    parts = [
        programs(count - sum(many), 3, side, device),
        spectra(max(1, many[0]), 3, side, device),
        cells(max(1, many[1]), 3, side, device),
        standardised(density.expand(-1, 3, -1, -1) + 0.15 * ground),
    ]
    field = torch.cat(parts)[:count]
    field = field[torch.randperm(count, device=device)]
    shape = (count, 1, 1, 1)
    # Three fields through a matrix in which brightness rules, or one field through a palette.
    grey = torch.rand(*shape, device=device) < 0.15
    mixing = torch.randn(count, 3, 3, device=device) * uniform(0, 0.5, count, 1, 1, device=device)
    mixing[:, :, 0] += 1
    contrast = torch.exp(uniform(math.log(0.05), math.log(0.35), *shape, device=device))
    mixed = torch.einsum("nij,njhw->nihw", mixing, field) * contrast + _colours(count, 1, device).view(
        count, 3, 1, 1
    )
    stops = _colours(count, 5, device)
    place = torch.sigmoid(field[:, :1] * uniform(0.5, 2.5, *shape, device=device)) * 3.999
    low = place.floor().long()
    share = place - low
    row = torch.arange(count, device=device).view(count, 1, 1)
    palette = (
        stops[row, low[:, 0]] * (1 - share[:, 0, ..., None])
        + stops[row, low[:, 0] + 1] * share[:, 0, ..., None]
    )
    found = torch.where(torch.rand(*shape, device=device) < 0.5, mixed, palette.permute(0, 3, 1, 2))
    return torch.where(grey, found.mean(1, keepdim=True), found)


def _colours(count: int, each: int, device: str) -> torch.Tensor:
    """Return ``[count, each, 3]``: brightness drawn evenly, little colour more often than much."""
    bright = uniform(0.05, 0.95, count, each, 1, device=device)
    tint = torch.randn(count, each, 3, device=device)
    tint = tint - tint.mean(2, keepdim=True)
    return (bright + tint * 0.35 * torch.rand(count, each, 1, device=device) ** 1.5).clamp(0, 1)


def _outline(
    x: torch.Tensor,
    y: torch.Tensor,
    size: torch.Tensor,
    middle: float | torch.Tensor,
    kind: torch.Tensor,
    mirrored: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the level of a leaf (1 on its outline, 0 in its middle) and coordinates in its own frame."""
    shape, device = size.shape, str(size.device)
    cx, cy = uniform(-1, 1, *shape, device=device) * middle, uniform(-1, 1, *shape, device=device) * middle
    turn = uniform(0, 2 * math.pi, *shape, device=device)
    left = torch.where(mirrored, (x - 0.1).abs(), x)
    u = ((left - cx) * torch.cos(turn) + (y - cy) * torch.sin(turn)) / size
    v = (-(left - cx) * torch.sin(turn) + (y - cy) * torch.cos(turn)) / size
    v = v * torch.exp(torch.randn(*shape, device=device).abs() * 0.7)
    radius, angle = torch.sqrt(u**2 + v**2 + 1e-6), torch.atan2(v, u)
    power = torch.exp(uniform(-0.3, 2.2, *shape, device=device))
    box = ((u.abs() + 1e-4) ** power + (v.abs() + 1e-4) ** power) ** (1 / power)
    corners = torch.randint(3, 8, shape, device=device)
    wedge = 2 * math.pi / corners
    polygon = radius * torch.cos((angle % wedge) - wedge / 2) / torch.cos(wedge / 2)
    wave = torch.ones_like(radius)
    for order in (2, 3, 4, 6, 9):
        wave = wave + torch.randn(*shape, device=device) * 0.45 / order * torch.cos(
            order * angle + uniform(0, 6.3, *shape, device=device)
        )
    blob = radius / wave.clamp_min(0.2)
    which = (kind + 0.35 * torch.rand(*shape, device=device)) % 1
    level = torch.where(
        which < 0.3, box, torch.where(which < 0.5, polygon, torch.where(which < 0.6, radius, blob))
    )
    ring = torch.rand(*shape, device=device) < 0.08
    return torch.where(ring, (level - 0.8).abs() * 4, level), u, v


def _filled(
    texture: torch.Tensor, base: torch.Tensor, spread: torch.Tensor, count: int, device: str
) -> torch.Tensor:
    """Return what fills a leaf: one colour near the picture's own, or the texture of another picture, toned."""
    shape = (count, 1, 1, 1)
    side = texture.shape[2]
    move = torch.randint(side, (2,)).tolist()
    other = texture.roll(move, (2, 3))[torch.randperm(count, device=device)]
    colour = base * (1 - spread) + spread * _colours(count, 1, device).view(count, 3, 1, 1)
    own = torch.rand(*shape, device=device)
    amount = torch.where(own < 0.35, 0.0, torch.where(own < 0.7, 0.35, 1.0))
    tone = colour + amount * (other - other.mean((2, 3), keepdim=True))
    return torch.where(own > 0.9, other, tone)


def photographed(picture: torch.Tensor, device: str) -> torch.Tensor:
    """Light, blur, noise and rounding of a camera."""
    count, side = len(picture), picture.shape[2]
    x, y = grid(side, device)
    shape = (count, 1, 1, 1)
    turn = uniform(0, 6.3, *shape, device=device)
    light = 1 + uniform(-0.25, 0.25, *shape, device=device) * (x * torch.cos(turn) + y * torch.sin(turn))
    light = light - uniform(0, 0.15, *shape, device=device) * (x**2 + y**2)
    picture = picture * light
    soft = functional.avg_pool2d(functional.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
    picture = torch.lerp(
        picture, soft, torch.rand(*shape, device=device) * (torch.rand(*shape, device=device) < 0.6)
    )
    picture = picture + torch.randn_like(picture) * 0.04 * torch.rand(*shape, device=device) ** 2
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
