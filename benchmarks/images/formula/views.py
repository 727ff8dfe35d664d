"""Views of pictures: a piece, turned and mirrored, in other light and colours, sharper or softer."""

from __future__ import annotations

import torch
from torch.nn import functional

from benchmarks.images.formula.fields import uniform


def mixed(pictures: torch.Tensor) -> torch.Tensor:
    """Return ``uint8 [n, 2, 3, s, s]`` pictures as numbers in [0, 1]; half with a share of another pair over them.

    Source: Zhang et al. (2018), mixup; Baradad et al. (2022), Procedural image programs (mixed shaders).
    """
    device = str(pictures.device)
    found = pictures.float() / 255
    shape = (len(pictures), 1, 1, 1, 1)
    share = uniform(0, 0.5, *shape, device=device) * (torch.rand(*shape, device=device) < 0.5)
    return torch.lerp(found, found.roll(1, 0), share)


def view(
    pictures: torch.Tensor, side: int, *, colour: float = 1.0, smallest: float = 0.12, largest: float = 1.0
) -> torch.Tensor:
    """Return one view of each picture ``[n, 3, s, s]`` in [0, 1] as ``[n, 3, side, side]`` in [-1, 1]."""
    count, device = len(pictures), str(pictures.device)
    area, ratio = uniform(smallest, largest, count, device=device), uniform(-0.28, 0.28, count, device=device)
    wide = torch.sqrt(area * torch.exp(ratio)).clamp_max(1)
    high = torch.sqrt(area * torch.exp(-ratio)).clamp_max(1)
    turn = torch.randn(count, device=device) * 0.17
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(turn), torch.sin(turn)
    left = uniform(-1, 1, count, device=device) * (1 - wide)
    top = uniform(-1, 1, count, device=device) * (1 - high)
    rows = torch.stack([wide * cos * flip, -high * sin, left, wide * sin * flip, high * cos, top], 1)
    where = functional.affine_grid(rows.view(count, 2, 3), [count, 3, side, side], align_corners=False)
    found = functional.grid_sample(pictures, where, padding_mode="reflection", align_corners=False)

    shape = (count, 1, 1, 1)
    soft = functional.avg_pool2d(functional.pad(found, (2, 2, 2, 2), mode="replicate"), 5, 1)
    amount = uniform(-0.5, 1, *shape, device=device) * (torch.rand(*shape, device=device) < 0.5)
    found = torch.lerp(found, soft, amount)

    used = (torch.rand(count, 1, 1, device=device) < 0.8) * colour
    axis = functional.normalize(torch.randn(count, 3, device=device), dim=1)
    angle = uniform(-0.6, 0.6, count, 1, 1, device=device) * used
    cross = torch.zeros(count, 3, 3, device=device)
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross = cross - cross.transpose(1, 2)
    eye = torch.eye(3, device=device)
    turned = eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)
    grey = torch.full((3, 3), 1 / 3, device=device)
    wash = torch.exp(uniform(-0.7, 0.5, count, 1, 1, device=device) * used)
    wash = wash * (torch.rand(count, 1, 1, device=device) > 0.2 * colour)
    matrix = (grey + wash * (eye - grey)) @ turned
    gain = torch.exp(uniform(-0.5, 0.4, count, 1, 1, device=device) * used)
    mean = found.mean((2, 3), keepdim=True)
    found = torch.bmm(matrix * gain, (found - mean).flatten(2)).view_as(found)
    light = uniform(-0.25, 0.25, *shape, device=device) * used[..., None]
    kept = torch.bmm(matrix, mean.flatten(2)).view_as(mean)
    found = kept + light + found
    found = found + torch.randn_like(found) * 0.03 * torch.rand(*shape, device=device) ** 2
    return found.clamp(0, 1) * 2 - 1
