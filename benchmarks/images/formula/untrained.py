"""What networks that were never trained draw: noise of many kinds, upsampled by random convolutions, drawn twice.

Sources: Baradad et al. (2021), Learning to see by looking at noise (untrained StyleGAN with sparse and oriented
noise); Karras et al. (2020), StyleGAN2; Ulyanov et al. (2018), Deep image prior.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from benchmarks.images.formula.fields import spectra, standardised, uniform

WIDTH, EACH = 20, 8
"""Channels of a network, and pictures that one network draws in two styles each."""


def make_untrained(count: int, side: int, device: str) -> torch.Tensor:
    """Return two drawings in every style, ``[n, 2, 3, side, side]`` in about [0, 1]."""
    nets = -(-count // EACH)
    small = side // 16
    shape = (EACH * 2, nets * WIDTH)
    values = torch.randn(*shape, small, small, device=device)
    values[1::2] = torch.lerp(values[::2], values[1::2], 0.5)

    def style() -> torch.Tensor:
        return 0.5 * torch.randn(EACH, nets * WIDTH, 1, 1, device=device).repeat_interleave(2, 0)

    for layer in range(5):
        if layer:
            values = functional.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)
        values = _filtered(values, nets, WIDTH, device)
        noise = spectra(EACH, nets, values.shape[2], device).repeat_interleave(2, 0)
        noise[1::2] = noise[1::2].roll(torch.randint(values.shape[2], (2,)).tolist(), (2, 3))
        loud = uniform(0, 0.5, EACH, 1, 1, 1, device=device).repeat_interleave(2, 0)
        loud = loud * torch.exp(torch.randn(nets * WIDTH, 1, 1, device=device))
        noise = noise.repeat_interleave(WIDTH, 1)
        values = standardised(values + loud * noise) * torch.exp(style()) + style()
        wave = torch.rand(nets, 1, 1, device=device).repeat_interleave(WIDTH, 0)
        values = torch.where(wave < 0.2, torch.sin(2 * values), functional.leaky_relu(values, 0.2))
    found = _filtered(values, nets, 3, device, 1).unflatten(1, (nets, 3)).transpose(0, 1).flatten(0, 1)
    found = standardised(found).unflatten(0, (nets * EACH, 2))
    shape = (nets * EACH, 1, 1, 1, 1)
    mixing = torch.randn(nets * EACH, 3, 3, device=device) * uniform(0, 0.6, nets * EACH, 1, 1, device=device)
    mixing[:, :, 0] += 1
    contrast = torch.exp(uniform(math.log(0.07), math.log(0.3), *shape, device=device))
    bright = uniform(0.2, 0.8, *shape, device=device)
    tint = 0.15 * torch.randn(nets * EACH, 1, 3, 1, 1, device=device)
    found = torch.einsum("nij,nvjhw->nvihw", mixing, found) * contrast + bright + tint
    return found[torch.randperm(len(found), device=device)[:count]]


def _filtered(values: torch.Tensor, nets: int, width: int, device: str, size: int = 3) -> torch.Tensor:
    """Return a convolution with one random filter bank per network; some banks are sparse."""
    before = values.shape[1] // nets
    bank = torch.randn(nets, width, before, size, size, device=device)
    sparse = torch.rand(nets, 1, 1, 1, 1, device=device) < 0.5
    bank = bank * torch.where(sparse, (torch.rand_like(bank) < 0.3) * 1.8, 1.0) / math.sqrt(before * size**2)
    padded = functional.pad(values, [size // 2] * 4, mode="reflect") if size > 1 else values
    return functional.conv2d(padded, bank.flatten(0, 1), groups=nets)
