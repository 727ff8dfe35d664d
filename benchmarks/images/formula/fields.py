"""Grey fields made by formulas, a batch at a time on any device: noise, random programs, cells, fractals.

Sources: Baradad et al. (2021), Learning to see by looking at noise (spectra, dead leaves); Baradad et al. (2022),
Procedural image programs for representation learning (shaders); Stanley (2007), Compositional pattern producing
networks; Worley (1996), A cellular texture basis function; Kataoka et al. (2020), Pre-training without natural
images (iterated function systems).
"""

from __future__ import annotations

import math

import torch

Field = torch.Tensor
"""``[n, channels, side, side]``; each channel has mean 0 and standard deviation 1 unless said otherwise."""


def uniform(low: float, high: float, *shape: int, device: str) -> torch.Tensor:
    """Return numbers drawn evenly from ``[low, high)``."""
    return low + (high - low) * torch.rand(*shape, device=device)


def standardised(field: Field) -> Field:
    """Return a field with mean 0 and standard deviation 1 per channel."""
    return (field - field.mean((2, 3), keepdim=True)) / (field.std((2, 3), keepdim=True) + 1e-4)


def grid(side: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``x`` and ``y``, each ``[1, 1, side, side]`` in [-1, 1]."""
    line = (torch.arange(side, device=device) + 0.5) / side * 2 - 1
    return line.view(1, 1, 1, side).expand(1, 1, side, side), line.view(1, 1, side, 1).expand(
        1, 1, side, side
    )


def spectra(count: int, channels: int, side: int, device: str) -> Field:
    """Return noise whose spectrum falls with a power of the frequency, stretched and, for a third, held to a band."""
    fy = torch.fft.fftfreq(side, device=device).view(1, 1, -1, 1)
    fx = torch.fft.rfftfreq(side, device=device).view(1, 1, 1, -1)
    shape = (count, channels, 1, 1)
    turn = uniform(0, math.pi, *shape, device=device)
    stretch = torch.exp(torch.randn(*shape, device=device).abs() * 0.9)
    along = fx * torch.cos(turn) + fy * torch.sin(turn)
    across = (-fx * torch.sin(turn) + fy * torch.cos(turn)) * stretch
    radius = torch.sqrt(along**2 + across**2) + 0.5 / side
    strength = radius ** -uniform(0.5, 3.2, *shape, device=device)
    centre = torch.exp(uniform(math.log(0.03), math.log(0.3), *shape, device=device))
    band = torch.exp(-((torch.log(radius / centre) / uniform(0.1, 0.5, *shape, device=device)) ** 2))
    banded = torch.rand(*shape, device=device) < 0.33
    strength = torch.where(banded, band + 0.02 * strength / strength.amax((2, 3), keepdim=True), strength)
    phase = torch.randn(*strength.shape, 2, device=device)
    found = torch.fft.irfft2(torch.view_as_complex(phase) * strength, s=(side, side))
    found = standardised(found)
    sharp = torch.tanh(found * uniform(1, 6, *shape, device=device))
    kind = torch.rand(*shape, device=device)
    return standardised(torch.where(kind < 0.25, sharp, torch.where(kind < 0.4, found.abs(), found)))


_ACTIVATIONS = (
    torch.sin, torch.tanh, torch.abs, torch.relu, lambda value: torch.exp(-(value**2)),
    lambda value: value - torch.floor(value), lambda value: torch.tanh(8 * torch.sin(2 * value)), torch.cos,
)  # fmt: skip


def programs(count: int, channels: int, side: int, device: str) -> Field:
    """Return what random programs draw: layers of mixed functions over warped coordinates and noise."""
    x, y = grid(side, device)
    shape = (count, 1, 1, 1)
    turn, zoom = uniform(0, 6.3, *shape, device=device), torch.exp(uniform(-0.7, 1.8, *shape, device=device))
    depth = (
        1 + uniform(-0.45, 0.45, *shape, device=device) * y + uniform(-0.3, 0.3, *shape, device=device) * x
    )
    u = (x * torch.cos(turn) + y * torch.sin(turn)) / depth * zoom + torch.randn(*shape, device=device)
    v = (-x * torch.sin(turn) + y * torch.cos(turn)) / depth * zoom + torch.randn(*shape, device=device)
    noise = spectra(count, 4, side, device)
    warp = 0.6 * torch.rand(*shape, device=device) * (torch.rand(*shape, device=device) < 0.6)
    u, v = u + warp * noise[:, :1], v + warp * noise[:, 1:2]
    radius = torch.sqrt(u**2 + v**2 + 1e-4)
    around = torch.atan2(v, u) * torch.randint(1, 7, shape, device=device)
    values = torch.cat([u, v, radius, torch.sin(around), noise[:, 2:], torch.ones_like(u)], 1)
    width = 2 * len(_ACTIVATIONS)
    for layer in range(3):
        weight = torch.randn(count, width, values.shape[1], device=device)
        weight = weight * (torch.rand_like(weight) < 0.45) * (1.6 if layer else 1.3)
        if not layer:
            gain = 0.5 * (torch.rand(count, 1, 2, device=device) < 0.5)
            weight[:, :, 4:6] *= gain
        mixed = torch.bmm(weight, values.flatten(2)) / (1 if not layer else math.sqrt(width * 0.45))
        parts = [
            act(mixed[:, 2 * place : 2 * place + 2] * (1 if not layer else 2))
            for place, act in enumerate(_ACTIVATIONS)
        ]
        values = torch.cat(parts, 1).unflatten(2, (side, side))
    weight = torch.randn(count, channels, width, device=device)
    weight = weight * (torch.rand_like(weight) < 0.3)
    found = torch.bmm(weight, values.flatten(2)).unflatten(2, (side, side))
    return standardised(found + 0.02 * noise[:, :1])


def cells(count: int, channels: int, side: int, device: str) -> Field:
    """Return distances to scattered points: cells, cracks between cells, or one value per cell."""
    most = 48
    x, y = grid(side, device)
    shape = (count, channels, 1, 1)
    place = uniform(-1.1, 1.1, count, most, 2, device=device)
    many = torch.randint(5, most + 1, (count, 1), device=device)
    place[torch.arange(most, device=device)[None] >= many] = 50.0
    stretch = torch.exp(torch.randn(count, 1, 1, 1, device=device) * 0.3)
    step = max(1, side // 48)
    small_x, small_y = x[..., ::step, ::step], y[..., ::step, ::step]
    away = torch.sqrt(
        (small_x - place[:, :, 0, None, None]) ** 2 + ((small_y - place[:, :, 1, None, None]) * stretch) ** 2
    )
    near, which = away.topk(2, dim=1, largest=False)
    value = torch.rand(count, most, device=device).gather(1, which[:, 0].flatten(1)).view_as(which[:, 0])
    edge = torch.tanh((near[:, 1] - near[:, 0]) * uniform(3, 25, count, 1, 1, device=device))
    kinds = torch.stack([near[:, 0], edge, value, near[:, 1] - near[:, 0]], 1)
    kinds = torch.nn.functional.interpolate(kinds, size=(side, side), mode="bilinear", align_corners=False)
    chosen = torch.randint(4, shape, device=device).expand(-1, -1, side, side)
    found = standardised(kinds).gather(1, chosen)
    return standardised(
        found + 0.3 * torch.rand(*shape, device=device) * spectra(count, channels, side, device)
    )


def fractals(count: int, side: int, device: str) -> torch.Tensor:
    """Return densities in [0, 1] of iterated function systems, ``[count, 1, side, side]``."""
    maps, walkers = 5, 2048
    left, right = uniform(0, 6.3, count, maps, device=device), uniform(0, 6.3, count, maps, device=device)
    size = uniform(0.2, 0.85, count, maps, 2, device=device)
    size = size * torch.where(torch.rand_like(size) < 0.3, -1.0, 1.0)
    matrix = _turns(left) @ torch.diag_embed(size) @ _turns(right)
    shift = uniform(-1, 1, count, maps, 2, device=device)
    weight = size.prod(2).abs() + 0.03
    many = torch.randint(2, maps + 1, (count, 1), device=device)
    weight = weight * (torch.arange(maps, device=device)[None] < many)
    points = torch.zeros(count, walkers, 2, device=device)
    seen = []
    row = torch.arange(count, device=device)[:, None]
    for step in range(28):
        which = torch.multinomial(weight, walkers, replacement=True)
        points = (matrix[row, which] @ points[..., None])[..., 0] + shift[row, which]
        if step >= 12:
            seen.append(points)
    cloud = torch.cat(seen, 1)
    spread = cloud.std(1, keepdim=True).amax(2, keepdim=True)
    cloud = (cloud - cloud.mean(1, keepdim=True)) / (4 * spread + 1e-4)
    cloud = cloud * uniform(0.6, 1.1, count, 1, 1, device=device) + uniform(
        0.35, 0.65, count, 1, 2, device=device
    )
    cell = (cloud * side).long().clamp(-1, side)
    inside = ((cell >= 0) & (cell < side)).all(2)
    flat = (cell[..., 1] * side + cell[..., 0]).clamp(0, side * side - 1)
    density = torch.zeros(count, side * side, device=device).scatter_add_(1, flat, inside.float())
    gain = uniform(0.5, 1.5, count, 1, device=device)
    return torch.tanh(gain * torch.sqrt(density)).view(count, 1, side, side)


def _turns(angle: torch.Tensor) -> torch.Tensor:
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
