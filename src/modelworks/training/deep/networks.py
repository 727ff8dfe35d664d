"""Compact networks that are trained from nothing: residual images, inception series, character texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What network is built.

    Attributes:
        kind: ``image``, ``series``, ``text``, or ``pretrained`` (a Hugging Face model in a local folder).
        outputs: Scores per row.
        width: Channels of the first stage; later ones have twice and four times as many.
        depth: Residual blocks per stage (image), inception blocks (series), convolutions (text).
        side: Images: side in pixels.
        channels: Series: channels.
        length: Series and texts: values or characters.
        symbols: Texts: known characters and two more (0 nothing, 1 unknown).
        buckets: Texts: rows of the table of hashed n-grams.
        dropout: Share of features that are dropped before the last layer.
        folder: Pretrained: the model's folder.
        modality: Pretrained: ``image`` or ``text``.
    """

    kind: Literal["image", "series", "text", "pretrained"]
    outputs: int
    width: int = 24
    depth: int = 1
    side: int = 32
    channels: int = 1
    length: int = 0
    symbols: int = 0
    buckets: int = 8192
    dropout: float = 0.1
    folder: str = ""
    modality: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def build(self) -> Any:
        """Build the network with fresh weights drawn from PyTorch's generator (or read from its folder)."""
        if self.kind == "pretrained":
            from modelworks.training.deep.pretrained import PretrainedNetwork

            return PretrainedNetwork(self)
        return {"image": ImageNetwork, "series": SeriesNetwork, "text": TextNetwork}[self.kind](self)

    def sample(self, rows: int = 2) -> Any:
        """Return inputs of the right shape and type, for tracing."""
        if self.kind == "image" or (self.kind, self.modality) == ("pretrained", "image"):
            return torch.zeros(rows, 3, self.side, self.side)
        if self.kind == "series":
            return torch.zeros(rows, self.channels, self.length)
        if self.kind == "text":
            return torch.ones(rows, self.length, dtype=torch.int64)
        return torch.ones(rows, 2, self.length or 16, dtype=torch.int64)


def multiplications(spec: NetworkSpec) -> float:
    """Return the multiplications of one row's forward pass in convolutions and matrix products."""
    found = [0.0]

    def count(module: Any, _: Any, result: Any) -> None:
        found[0] += result.numel() * module.weight[0].numel()

    with torch.random.fork_rng():
        network = spec.build().eval()
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(spec.sample(1))
    return found[0]


_WHITE = 32


class ImageNetwork(nn.Module):  # type: ignore[misc]
    """A small residual network with three or four stages, on whitened neighbourhoods of pixels.

    Source: He et al. (2016), Deep residual learning; He et al. (2019), Bag of tricks (pooled shortcut); Jordan (2024),
    94% on CIFAR-10 in 3.29 seconds on a single GPU (a fixed whitening layer first).
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        stem = 2 if spec.side > 48 else 1
        stages = 3 if spec.side <= 64 else 4
        widths = [spec.width * 2**stage for stage in range(stages)]
        self.whitening = nn.Conv2d(3, _WHITE, 3, stride=stem, padding=1, bias=False)
        self.whitening.weight.requires_grad_(False)
        layers: list[Any] = []
        before = _WHITE
        for stage, width in enumerate(widths):
            for block in range(spec.depth):
                stride = 2 if stage and not block else 1
                layers.append(_ImageBlock(before, width, stride))
                before = width
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(spec.dropout)
        self.head = nn.Linear(before, spec.outputs)

    def forward(self, images: Any) -> Any:
        white = functional.relu(self.whitening(images))
        return self.head(self.drop(self.body(white).mean((2, 3))))

    def prepare(self, images: Any) -> None:
        """Set the first layer: leading directions of the training images' 3 x 3 patches, at equal variance, both signs.

        Args:
            images: Training images ``float [n, 3, side, side]`` in [-1, 1].
        """
        windows = images.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 27)
        patches = windows[:: max(1, len(windows) // 60_000)].double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        white = (vectors / torch.sqrt(values + 1e-3)).T.flip(0).reshape(27, 3, 3, 3)[: _WHITE // 2]
        with torch.no_grad():
            self.whitening.weight.copy_(torch.cat([white, -white]))


class _ImageBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut = nn.Identity()
        if stride > 1 or before != after:
            shortcut = [nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)]
            self.shortcut = nn.Sequential(*([nn.AvgPool2d(stride)] if stride > 1 else []), *shortcut)

    def forward(self, values: Any) -> Any:
        inner = functional.relu(self.norm1(self.first(values)))
        return functional.relu(self.shortcut(values) + self.norm2(self.second(inner)))


class SeriesNetwork(nn.Module):  # type: ignore[misc]
    """Inception blocks over time with a residual path every third.

    Source: Ismail Fawaz et al. (2020), InceptionTime; Wang et al. (2017), Time series classification from scratch.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        blocks, residuals = [], []
        before = skipped = spec.channels
        for block in range(spec.depth):
            blocks.append(_Inception(before, spec.width, spec.length))
            before = 4 * spec.width
            if block % 3 == 2:
                residuals.append(
                    nn.Sequential(nn.Conv1d(skipped, before, 1, bias=False), nn.BatchNorm1d(before))
                )
                skipped = before
        self.blocks, self.residuals = nn.ModuleList(blocks), nn.ModuleList(residuals)
        self.drop = nn.Dropout(spec.dropout)
        self.head = nn.Linear(2 * before, spec.outputs)

    def forward(self, series: Any) -> Any:
        values = kept = series
        for index, block in enumerate(self.blocks):
            values = block(values)
            if index % 3 == 2:
                values = functional.relu(values + self.residuals[index // 3](kept))
                kept = values
        return self.head(self.drop(torch.cat([values.mean(2), values.amax(2)], dim=1)))


class _Inception(nn.Module):  # type: ignore[misc]
    def __init__(self, before: int, width: int, length: int) -> None:
        super().__init__()
        narrow = min(before, width)
        self.narrow = nn.Conv1d(before, narrow, 1, bias=False) if before > width else nn.Identity()
        sizes = [min(size, max(3, length // 2 * 2 - 1)) for size in (39, 19, 9)]
        # A norm per branch normalises as one after the join would, and folds into its convolution.
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(narrow, width, size, padding=size // 2, bias=False), nn.BatchNorm1d(width)
            )
            for size in sizes
        )
        self.pooled = nn.Sequential(nn.Conv1d(before, width, 1, bias=False), nn.BatchNorm1d(width))

    def forward(self, values: Any) -> Any:
        narrow = self.narrow(values)
        found = [branch(narrow) for branch in self.branches]
        found.append(self.pooled(functional.max_pool1d(values, 3, stride=1, padding=1)))
        return functional.relu(torch.cat(found, dim=1))


class TextNetwork(nn.Module):  # type: ignore[misc]
    """Characters of a text through two roads: hashed n-grams averaged, and convolutions at their strongest place.

    Source: Joulin et al. (2017), Bag of tricks for efficient text classification; Kim (2014), Convolutional neural
    networks for sentence classification; Zhang, Zhao & LeCun (2015), Character-level convolutional networks.
    """

    GRAMS = (2, 3, 4, 5, 6)
    _FACTOR = 65_599
    _PRIME = 16_777_213

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.buckets, self.wide = spec.buckets, 2 * spec.width
        self.table = nn.Embedding(spec.buckets, self.wide)
        nn.init.normal_(self.table.weight, std=0.1)
        self.letters = nn.Embedding(spec.symbols, spec.width)
        layers: list[Any] = []
        before = spec.width
        for _ in range(spec.depth):
            layers += [
                nn.Conv1d(before, self.wide, 5, padding=2, bias=False),
                nn.BatchNorm1d(self.wide),
                nn.ReLU(),
            ]
            layers.append(nn.MaxPool1d(2, ceil_mode=True))
            before = self.wide
        self.convolutions = nn.Sequential(*layers)
        self.drop = nn.Dropout(spec.dropout)
        self.head = nn.Linear(len(self.GRAMS) * self.wide + before, spec.outputs)

    def forward(self, codes: Any) -> Any:
        codes = codes.long()
        found = [self._grams(codes, size) for size in self.GRAMS]
        states = self.convolutions(self.letters(codes).transpose(1, 2))
        found.append(states.amax(2))
        return self.head(self.drop(torch.cat(found, dim=1)))

    def _grams(self, codes: Any, size: int) -> Any:
        """Return the mean vector of the n-grams of one size; a place holds one when all its characters exist."""
        places = codes.shape[1] - size + 1
        hashed = codes[:, :places] + size * 7
        for offset in range(1, size):
            hashed = (hashed * self._FACTOR + codes[:, offset : offset + places]) % self._PRIME
        exists = (codes[:, size - 1 :] > 0).to(self.table.weight.dtype).unsqueeze(2)
        vectors = self.table(hashed % self.buckets)
        return (vectors * exists).sum(1) / torch.sqrt(exists.sum(1).clamp_min(1.0))
