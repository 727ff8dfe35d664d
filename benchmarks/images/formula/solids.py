"""Lit solids over a ground: things grown from ellipsoids, boxes and cylinders, seen twice from different places.

Sources: Kajiya (1986), The rendering equation (light and shadow, one bounce); Roth (1982), Ray casting for modeling
solids; Jahanian et al. (2022), Generative models as a data source for multiview representation learning (two renderings
of one thing as two views of it).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from benchmarks.images.formula.fields import grid, uniform

PARTS = 10
FAR = 1e4
GROUND = -1.0

Tensors = tuple[torch.Tensor, ...]


def make_solids(texture: torch.Tensor, behind: torch.Tensor) -> torch.Tensor:
    """Return two renderings of every thing, ``[n, 2, 3, side, side]`` in about [0, 1].

    Args:
        texture: What the things are covered with, ``[n, 3, s, s]``.
        behind: What is behind them, ``[n, 3, side, side]``.
    """
    count, device, side = len(texture), str(texture.device), behind.shape[2]
    twice = torch.arange(count, device=device).repeat_interleave(2)
    shape = [part[twice] for part in _grown(count, device)]
    centre, turn, size, kind, there = shape
    colour, amount, gloss = (part[twice] for part in _painted(texture))
    origin, rays = _cameras(count, side * 3 // 2, device)
    light = _lights(count, device)
    time, normal, local, which = _cast(origin[:, None], rays, centre, turn, size, kind, there)
    ground = (torch.rand(count, 1, device=device) < 0.7)[twice]
    down = torch.where(rays[..., 1] < -1e-3, (GROUND - origin[:, 1:2]) / rays[..., 1].clamp_max(-1e-3), FAR)
    down = torch.where(ground & (down < 12), down, FAR)
    floor = down < time
    distance = torch.minimum(down, time)
    point = origin[:, None] + rays * distance.clamp_max(20)[..., None]
    normal = torch.where(floor[..., None], torch.tensor([0.0, 1.0, 0.0], device=device), normal)
    facing = (normal * light[:, None]).sum(-1)
    shade = _cast(
        point + 0.02 * normal, light[:, None].expand_as(point), centre, turn, size, kind, there, whole=False
    )[0]
    lit = facing.clamp_min(0) * torch.where(shade < FAR, 0.15, 1.0)
    soft = uniform(0.25, 0.6, count, 1, device=device)[twice]
    bright = soft * (0.75 + 0.25 * normal[..., 1]) + 1.1 * (1 - soft) * lit
    half = functional.normalize(light[:, None] - rays, dim=-1)
    shine = (normal * half).sum(-1).clamp_min(0) ** uniform(8, 60, count, 1, device=device)[twice]

    tone = texture - texture.mean((2, 3), keepdim=True)
    planes = _planes(count, device)[twice]
    own = torch.bmm(local, planes) * uniform(0.3, 1.0, count, 1, 1, device=device)[twice]
    covered = (
        colour.gather(1, which[..., None].expand(-1, -1, 3))
        + _looked_up(tone[twice], own) * amount.gather(1, which)[..., None]
    )
    flat = uniform(0.1, 0.9, count, 1, 3, device=device)
    flat = torch.lerp(flat, flat.mean(2, keepdim=True), 0.7)[twice]
    spread = uniform(0.15, 0.6, count, 1, 1, device=device)[twice]
    other = tone.roll(1, 0) * uniform(0, 1, count, 1, 1, 1, device=device)
    below = flat + _looked_up(other[twice], point[..., ::2] * spread)
    seen = torch.where(floor[..., None], below, covered) * bright[..., None]
    seen = seen + (gloss * shine * lit * ~floor)[..., None]

    wide = side * 3 // 2
    back = functional.interpolate(behind, size=(wide, wide), mode="bilinear", align_corners=False)[twice]
    back = back.flatten(2).transpose(1, 2)
    fog = (1 - torch.exp(-distance.clamp_max(20) * uniform(0, 0.15, count, 1, device=device)[twice]))[
        ..., None
    ]
    seen = torch.lerp(seen, back.mean(1, keepdim=True), fog * floor[..., None])
    seen = torch.where((distance < FAR)[..., None], seen, back)
    picture = seen.transpose(1, 2).unflatten(2, (wide, wide))
    picture = functional.interpolate(picture, size=(side, side), mode="bilinear", antialias=True)
    return picture.unflatten(0, (count, 2))


def _grown(count: int, device: str) -> Tensors:
    """Return centres ``[n, k, 3]``, turns ``[n, k, 3, 3]``, half axes ``[n, k, 3]``, kinds and presence ``[n, k]``."""
    centre = torch.zeros(count, PARTS, 3, device=device)
    turn = _rotations(count * PARTS, device, uniform(0.0, 1.0, count * PARTS, 1, device=device)).view(
        count, PARTS, 3, 3
    )
    long = torch.exp(
        torch.randn(count, PARTS, 3, device=device) * uniform(0.05, 0.8, count, 1, 1, device=device)
    )
    size = 0.5 * long / long.prod(2, keepdim=True) ** (1 / 3)
    shrink = uniform(0.4, 1.0, count, 1, device=device)
    scattered = torch.rand(count, 1, device=device) < 0.3
    mirrored = (torch.rand(count, device=device) < 0.5) & ~scattered[:, 0]
    aligned = torch.rand(count, 1, 1, 1, device=device) < 0.4
    turn = torch.where(aligned, turn[:, :1], turn)
    row = torch.arange(count, device=device)
    flip = torch.tensor([-1.0, 1.0, 1.0], device=device)
    scale = torch.ones(count, PARTS, device=device)
    for part in range(1, PARTS):
        stem = torch.randint(part, (count,), device=device)
        stem = torch.where(torch.rand(count, device=device) < 0.4, 0, stem)
        scale[:, part] = scale[row, stem] * (
            shrink * torch.exp(torch.randn(count, 1, device=device) * 0.3)
        ).view(-1)
        way = functional.normalize(torch.randn(count, 3, device=device), dim=1)
        reach = torch.einsum("nij,nj->ni", turn[row, stem], size[row, stem] * scale[row, stem, None] * way)
        grown = centre[row, stem] + reach * uniform(0.7, 1.5, count, 1, device=device)
        placed = uniform(-1.6, 1.6, count, 3, device=device)
        centre[:, part] = torch.where(scattered, placed, grown)
        if part % 2 == 0:
            same = mirrored[:, None]
            centre[:, part] = torch.where(same, centre[:, part - 1] * flip, centre[:, part])
            turned = flip[:, None] * turn[:, part - 1] * flip
            turn[:, part] = torch.where(same[..., None], turned, turn[:, part])
            size[:, part] = torch.where(same, size[:, part - 1], size[:, part])
            scale[:, part] = torch.where(mirrored, scale[:, part - 1], scale[:, part])
    size = size * scale[..., None]
    many = torch.randint(1, PARTS + 1, (count, 1), device=device)
    there = torch.arange(PARTS, device=device) < many
    weight = there[..., None].float()
    middle = (centre * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    centre = centre - middle
    radius = ((centre.norm(dim=2) + size.amax(2)) * there).amax(1)[:, None, None]
    centre, size = centre / radius, size / radius
    lowest = ((centre[..., 1] - size.amin(2)) + FAR * ~there).amin(1)
    standing = torch.rand(count, device=device) < 0.8
    centre[..., 1] += torch.where(standing, GROUND - lowest, 0.0)[:, None]
    on_ground = (GROUND + size.amin(2)) + 0 * centre[..., 1]
    centre[..., 1] = torch.where(scattered, on_ground, centre[..., 1])
    mixed = torch.rand(count, 1, device=device) < 0.5
    kind = torch.randint(3, (count, PARTS), device=device)
    return centre, turn, size, torch.where(mixed, kind, kind[:, :1]), there


def _rotations(count: int, device: str, share: torch.Tensor) -> torch.Tensor:
    """Return rotations ``[n, 3, 3]``: about a random axis by up to half a turn times ``share [n, 1]``."""
    axis = functional.normalize(torch.randn(count, 3, device=device), dim=1)
    angle = (uniform(-math.pi, math.pi, count, 1, device=device) * share)[..., None]
    cross = torch.zeros(count, 3, 3, device=device)
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross = cross - cross.transpose(1, 2)
    return torch.eye(3, device=device) + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)


def _painted(texture: torch.Tensor) -> Tensors:
    """Return colours ``[n, k, 3]`` of a few kinds a thing, how much texture ``[n, k]`` and gloss ``[n, 1]``."""
    count, device = len(texture), str(texture.device)
    stops = uniform(0.05, 0.95, count, 3, 1, device=device)
    tint = torch.randn(count, 3, 3, device=device) * 0.3 * torch.rand(count, 3, 1, device=device)
    stops = (stops + tint - tint.mean(2, keepdim=True)).clamp(0.02, 1)
    chosen = torch.randint(3, (count, PARTS, 1), device=device) * (
        torch.rand(count, 1, 1, device=device) < 0.7
    )
    amount = uniform(0, 1.2, count, PARTS, device=device) * (torch.rand(count, PARTS, device=device) < 0.6)
    gloss = uniform(0, 0.7, count, 1, device=device) * (torch.rand(count, 1, device=device) < 0.5)
    return stops.gather(1, chosen.expand(-1, -1, 3)), amount, gloss


def _cameras(count: int, side: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where two cameras a thing stand ``[2n, 3]`` and where their pixels look ``[2n, side * side, 3]``."""
    apart = torch.tensor([0.0, 1.0], device=device)
    yaw = (
        uniform(0, 2 * math.pi, count, 1, device=device) + apart * torch.randn(count, 1, device=device) * 0.5
    )
    pitch = uniform(-0.05, 0.8, count, 1, device=device) + apart * torch.randn(count, 1, device=device) * 0.15
    away = uniform(1.7, 3.5, count, 1, device=device) * torch.exp(
        apart * torch.randn(count, 1, device=device) * 0.15
    )
    yaw, pitch, away = yaw.flatten(), pitch.flatten(), away.flatten()
    back = torch.stack(
        [torch.cos(pitch) * torch.sin(yaw), torch.sin(pitch), torch.cos(pitch) * torch.cos(yaw)], 1
    )
    right = torch.stack([torch.cos(yaw), torch.zeros_like(yaw), -torch.sin(yaw)], 1)
    up = torch.cross(back, right, dim=1)
    origin = back * away[:, None] + torch.randn(2 * count, 3, device=device) * 0.15
    x, y = (line.reshape(1, -1, 1) for line in grid(side, device))
    field = uniform(0.35, 0.6, count, 1, 1, device=device).repeat_interleave(2, 0)
    rays = (right[:, None] * x - up[:, None] * y) * field - back[:, None]
    return origin, functional.normalize(rays, dim=-1)


def _lights(count: int, device: str) -> torch.Tensor:
    """Return the way to the light ``[2n, 3]``, a little different the second time."""
    first = torch.randn(count, 1, 3, device=device)
    both = torch.cat([first, first + 0.5 * torch.randn(count, 1, 3, device=device)], 1).flatten(0, 1)
    both[:, 1] = both[:, 1].abs() + 0.3
    return functional.normalize(both, dim=1)


def _cast(
    origin: torch.Tensor, rays: torch.Tensor, centre: torch.Tensor, turn: torch.Tensor, size: torch.Tensor,
    kind: torch.Tensor, there: torch.Tensor, *, whole: bool = True,
) -> Tensors:  # fmt: skip
    """Return of every ray the way to the nearest part (``FAR`` for none) and, if ``whole``, its normal there, the
    place in the part's own frame, and which part it is."""
    time = torch.full(rays.shape[:2], FAR, device=rays.device)
    normal, local = torch.zeros_like(rays), torch.zeros_like(rays)
    which = torch.zeros(rays.shape[:2], dtype=torch.int64, device=rays.device)
    for part in range(PARTS):
        frame = turn[:, part] / size[:, part, None]
        start = torch.bmm(origin - centre[:, part, None], frame)
        way = torch.bmm(rays, frame)
        near, far = _between(start, way, kind[:, part, None])
        hit = (near < far) & (near > 0.01) & (near < time) & there[:, part, None]
        time = torch.where(hit, near, time)
        if not whole:
            continue
        place = start + way * near[..., None]
        local = torch.where(hit[..., None], place, local)
        which = torch.where(hit, part, which)
        normal = torch.where(hit[..., None], _outward(place, kind[:, part, None, None], frame), normal)
    return time, functional.normalize(normal, dim=-1), local, which


def _between(start: torch.Tensor, way: torch.Tensor, kind: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return when rays enter and leave a unit sphere (kind 0), cube (1) or upright cylinder (2)."""
    flat = torch.where(kind[..., None] == 2, torch.tensor([1.0, 0.0, 1.0], device=way.device), 1.0)
    a = (way * way * flat).sum(-1) + 1e-9
    b = (start * way * flat).sum(-1)
    c = (start * start * flat).sum(-1) - 1
    root = b * b - a * c
    width = torch.sqrt(root.clamp_min(0))
    missed = root < 0
    near = torch.where(missed, FAR, (-b - width) / a)
    far = torch.where(missed, -FAR, (-b + width) / a)
    safe = torch.where(way.abs() < 1e-6, 1e-6, way)
    one, two = (-1 - start) / safe, (1 - start) / safe
    low, high = torch.minimum(one, two), torch.maximum(one, two)
    boxed = kind == 1
    near = torch.where(boxed, low.amax(-1), torch.where(kind == 2, torch.maximum(near, low[..., 1]), near))
    far = torch.where(boxed, high.amin(-1), torch.where(kind == 2, torch.minimum(far, high[..., 1]), far))
    return near, far


def _outward(place: torch.Tensor, kind: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """Return normals of parts whose edges are a little round."""
    around = torch.sqrt(place[..., ::2].square().sum(-1, keepdim=True) + 1e-9)
    steep = torch.where(kind == 2, torch.cat([around, place[..., 1:2].abs(), around], -1), place.abs()) ** 9
    edged = torch.where(
        kind == 2, place / torch.cat([around, place[..., 1:2].abs() + 1e-6, around], -1), place.sign()
    )
    return torch.bmm(torch.where(kind == 0, place, edged * steep), frame.transpose(1, 2))


def _planes(count: int, device: str) -> torch.Tensor:
    return functional.normalize(torch.randn(count, 3, 2, device=device), dim=1)


def _looked_up(texture: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the texture ``[n, 3, s, s]`` at places ``[n, p, 2]``, mirrored beyond its edges, as ``[n, p, 3]``."""
    found = functional.grid_sample(
        texture, places[:, None].clamp(-30, 30), padding_mode="reflection", align_corners=False
    )
    return found[:, :, 0].transpose(1, 2)
