"""Lines drawn by formulas: hairs, cracks, branches, loops and signs over a ground, each picture drawn twice.

Sources: Kataoka et al. (2022), Replacing labeled real-image datasets with auto-generated contours; Baradad et al.
(2021), Learning to see by looking at noise.
"""

from __future__ import annotations

import math

import torch

from benchmarks.images.formula.fields import grid, uniform

CURVES, BENDS = 14, 14


def make_strokes(behind: torch.Tensor) -> torch.Tensor:
    """Return two drawings of every set of curves, ``[n, 2, 3, side, side]``, over grounds ``[n, 3, side, side]``."""
    count, device, side = len(behind), str(behind.device), behind.shape[2]
    twice = torch.arange(count, device=device).repeat_interleave(2)
    second = torch.tensor([0.0, 1.0], device=device).repeat(count)
    points = _curves(count, device)[twice]
    moved = 0.05 * torch.randn_like(points[:, :, :1]) + 0.012 * torch.randn_like(points)
    points = points + second[:, None, None, None] * moved
    turn = 0.25 * torch.randn(2 * count, device=device) * second
    cos, sin = torch.cos(turn)[:, None, None], torch.sin(turn)[:, None, None]
    grown = torch.exp(0.15 * torch.randn(2 * count, device=device) * second)[:, None, None]
    px = (points[..., 0] * cos - points[..., 1] * sin) * grown
    py = (points[..., 0] * sin + points[..., 1] * cos) * grown

    def each(low: float, high: float, *more: int) -> torch.Tensor:
        return uniform(low, high, count, *more, device=device)[twice]

    many = torch.exp(each(0, math.log(CURVES), 1))
    thick = torch.exp(each(math.log(0.008), math.log(0.16), 1)) * torch.exp(each(-0.5, 0.5, CURVES))
    taper = each(0, 1.2, CURVES)
    bright = each(0, 1, 1, 1)
    spread = each(0, 0.5, 1, 1)
    tint = (torch.randn(count, CURVES, 3, device=device) * 0.25)[twice]
    tint = (tint - tint.mean(2, keepdim=True)) * each(0, 1, 1, 1)
    colours = (bright + spread * each(-1, 1, CURVES, 1) + tint).clamp(0, 1)
    round_ = each(0, 0.8, 1)
    picture = behind[twice]
    x, y = (line.reshape(1, -1, 1) for line in grid(side, device))
    for curve in range(CURVES):
        ax, ay = px[:, curve, None, :-1], py[:, curve, None, :-1]
        dx, dy = px[:, curve, None, 1:] - ax, py[:, curve, None, 1:] - ay
        share = (((x - ax) * dx + (y - ay) * dy) / (dx**2 + dy**2 + 1e-8)).clamp(0, 1)
        along = (share + torch.arange(BENDS - 1, device=device)) / (BENDS - 1)
        away = torch.sqrt((x - ax - share * dx) ** 2 + (y - ay - share * dy) ** 2 + 1e-9)
        width = thick[:, curve, None, None] * (1 - taper[:, curve, None, None].clamp_max(0.95) * along)
        level = (away / width).amin(2)
        edge = thick[:, curve, None] * side / 2
        mask = torch.sigmoid((1 - level) * (2 * edge).clamp(1.0, 12)) * (curve < many)
        bulge = 1 - round_ * (1 - torch.sqrt((1 - level.clamp(0, 1) ** 2) + 0.02))
        inside = colours[:, curve, :, None] * bulge[:, None]
        mask = mask[:, None].unflatten(2, (side, side))
        picture = torch.lerp(picture, inside.unflatten(2, (side, side)), mask)
    return picture.unflatten(0, (count, 2))


def _curves(count: int, device: str) -> torch.Tensor:
    """Return bends ``[n, curves, bends, 2]``: walks that turn smoothly, straight runs with corners, or loops."""
    shape = (count, CURVES, BENDS)
    smooth = torch.randn(*shape, device=device).cumsum(2) / math.sqrt(BENDS)
    corners = torch.where(
        torch.rand(*shape, device=device) < 0.2, torch.randn(*shape, device=device) * 1.2, 0.0
    )
    kind = torch.rand(count, 1, 1, device=device)
    bend = torch.where(kind < 0.25, corners, smooth * uniform(0.1, 1.0, count, 1, 1, device=device))
    arc = uniform(-1, 1, count, CURVES, 1, device=device) * 0.5
    bend = bend + torch.where(kind > 0.7, arc, 0.0)
    parallel = torch.rand(count, 1, 1, device=device) < 0.4
    lean = uniform(0, 2 * math.pi, count, CURVES, 1, device=device)
    lean = torch.where(parallel, lean[:, :1] + 0.15 * torch.randn(count, CURVES, 1, device=device), lean)
    angle = lean + bend.cumsum(2)
    reach = torch.exp(uniform(math.log(0.3), math.log(3.0), count, 1, 1, device=device)) / BENDS
    reach = reach * torch.exp(0.3 * torch.randn(count, CURVES, 1, device=device))
    steps = torch.stack([torch.cos(angle), torch.sin(angle)], -1) * reach[..., None]
    walk = steps.cumsum(2)
    start = uniform(-1, 1, count, CURVES, 1, 2, device=device) * uniform(
        0.1, 1.1, count, 1, 1, 1, device=device
    )
    found = start + walk - walk.mean(2, keepdim=True)
    branching = torch.rand(count, 1, 1, device=device) < 0.3
    row = torch.arange(count, device=device)
    for curve in range(1, CURVES):
        stem, bend_of = (
            torch.randint(curve, (count,), device=device),
            torch.randint(BENDS, (count,), device=device),
        )
        rooted = found[row, stem, bend_of][:, None] + walk[:, curve]
        found[:, curve] = torch.where(branching, rooted, found[:, curve])
    return found
