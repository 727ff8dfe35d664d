"""Pairs of pictures of every kind: what is the same thing or the same stuff, drawn twice."""

from __future__ import annotations

import torch

from benchmarks.images.formula.pictures import make_pictures, photographed, textures
from benchmarks.images.formula.solids import make_solids
from benchmarks.images.formula.strokes import make_strokes
from benchmarks.images.formula.untrained import make_untrained

SHARES = {"solids": 0.33, "strokes": 0.15, "untrained": 0.1}
"""The rest are leaves, of which both pictures are the same."""


def leaves(count: int, side: int, device: str) -> torch.Tensor:
    """Return ``uint8 [count, 2, 3, side, side]`` of leaves over a ground, both of a pair the same."""
    return make_pictures(count, side, device)[:, None].expand(-1, 2, -1, -1, -1)


def make_pairs(count: int, side: int, device: str) -> torch.Tensor:
    """Return ``uint8 [count, 2, 3, side, side]`` drawn from PyTorch's generator of the device, in random order."""
    many = {name: round(share * count) for name, share in SHARES.items()}
    pairs = [leaves(count - sum(many.values()), side, device)]
    covers = textures(many["solids"] + many["strokes"], side, device)
    chosen = torch.randint(len(pairs[0]), (len(covers),), device=device)
    grounds = pairs[0][chosen, 0].float() / 255
    plain = torch.rand(len(covers), 1, 1, 1, device=device)
    grounds = torch.where(
        plain < 0.35, grounds.mean((2, 3), keepdim=True) + 0.15 * (covers.flip(0) - 0.5), grounds
    )
    grounds = torch.where(plain > 0.8, covers.roll(1, 0), grounds)
    drawn = torch.cat(
        [
            make_solids(covers[: many["solids"]], grounds[: many["solids"]]),
            make_strokes(grounds[many["solids"] :]),
            make_untrained(many["untrained"], side, device),
        ]
    )
    pairs.append(photographed(drawn.flatten(0, 1), device).unflatten(0, (len(drawn), 2)))
    return torch.cat(pairs)[torch.randperm(count, device=device)]
