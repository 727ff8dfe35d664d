"""Series encoder: convolutions with the 84 fixed MiniRocket kernels and the share of positive values of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import DataError
from modelworks.core.signature import Tensor

Floats = npt.NDArray[np.float32]

KERNEL_LENGTH = 9
KERNELS = tuple(combinations(range(KERNEL_LENGTH), 3))
FITTED_VALUES = 2**18
"""Values of training series that biases are taken from, at most."""
_GOLDEN_RATIO = (np.sqrt(5) + 1) / 2


def stack_series(samples: Sequence[Any], length: int) -> Floats:
    """Return series ``float32 [channels, any length]`` as ``[n, channels, length]``, cut there, NaN after their end."""
    stacked = np.full((len(samples), int(samples[0].shape[0]), length), np.nan, np.float32)
    for row, item in enumerate(samples):
        stacked[row, :, : item.shape[1]] = item[:, :length]
    return stacked


def fit_kernel_encoder(series: Floats, *, features: int = 4998, seed: int = 0, least: float = 0.0) -> bytes:
    """Fit a MiniRocket-style encoder on unlabelled series.

    Every kernel has nine taps, three of weight 2 and six of weight -1, and is dilated over a range that the
    length allows. Biases are quantiles of the convolution of training series, so half-shares are informative. With
    several channels each kernel and dilation reads the sum of a random subset of channels.

    Args:
        series: ``[n, channels, length]``; NaN is missing and is read as the series' own mean.
        features: About how many features come out; rounded to a multiple of 84.
        seed: Seed of the choice of training series and channels.
        least: Share of the deviation of the responses that a bias keeps away from zero: interpolated series answer
            many kernels with zero, give or take a rounding error, and a bias of zero would count these at random.

    Returns:
        An ONNX graph ``series FP32 [rows, channels, length] -> embedding FP32 [rows, d]``.

    Raises:
        DataError: The series are shorter than nine values.

    Source: Dempster, Schmidt & Webb (2021), MiniRocket: a very fast (almost) deterministic transform for time
    series classification. KDD.
    """
    if series.ndim != 3 or series.shape[2] < KERNEL_LENGTH:
        raise DataError(
            f"The series encoder needs an array [n, channels, length >= {KERNEL_LENGTH}], got {list(series.shape)}.",
            code="MW1183",
        )
    rng = np.random.default_rng(seed)
    dilations, shares = _dilations(series.shape[2], max(1, features // len(KERNELS)))
    channels = [_channel_weights(series.shape[1], rng) for _ in dilations]
    convolved = _run_convolutions(series, dilations, channels, rng)
    biases = []
    offset = 0
    for values, count in zip(convolved, shares, strict=True):
        levels = ((np.arange(offset + 1, offset + count + 1)) * _GOLDEN_RATIO) % 1
        offset += count
        found = np.quantile(values, levels, axis=1)
        near = least * values.std()
        biases.append(np.where(np.abs(found) < near, near, found).astype(np.float32))
    return _encoder(series.shape[1], series.shape[2], dilations, channels, biases)


def _dilations(length: int, per_kernel: int) -> tuple[list[int], list[int]]:
    """Return dilations on a logarithmic grid and how many biases each gets."""
    limit = min(per_kernel, 32)
    largest = np.log2((length - 1) / (KERNEL_LENGTH - 1))
    grid = np.logspace(0, max(largest, 0.0), limit, base=2).astype(np.int64)
    values, counts = np.unique(grid, return_counts=True)
    shares = (counts * per_kernel / limit).astype(np.int64)
    shares[: per_kernel - int(shares.sum())] += 1
    return [int(value) for value in values], [int(share) for share in shares]


def _channel_weights(channels: int, rng: np.random.Generator) -> Floats:
    """Return convolution weights ``[84, channels, 9]`` whose kernels read random subsets of the channels."""
    weights = np.full((len(KERNELS), channels, KERNEL_LENGTH), -1.0, np.float32)
    for index, taps in enumerate(KERNELS):
        weights[index][:, list(taps)] = 2.0
        if channels > 1:
            count = int(2 ** rng.uniform(0, np.log2(min(channels, KERNEL_LENGTH) + 1)))
            unread = rng.permutation(channels)[count:]
            weights[index, unread] = 0.0
    return weights


def _normalised(graph: Graph) -> str:
    """Read missing values as the series' own mean."""
    missing = graph.op("IsNaN", "series")
    zero = graph.constant(np.zeros((), np.float32))
    present = graph.op("Where", missing, zero, "series")
    count = graph.op(
        "ReduceSum",
        graph.op("Cast", graph.op("Not", missing), to=FLOAT),
        graph.constant(np.array([2], np.int64)),
    )
    total = graph.op("ReduceSum", present, graph.constant(np.array([2], np.int64)))
    mean = graph.op("Div", total, graph.op("Max", count, graph.constant(np.ones((), np.float32))))
    return graph.op("Where", missing, mean, "series")


def _convolution(graph: Graph, source: str, weights: Floats, dilation: int) -> str:
    padding = (KERNEL_LENGTH - 1) * dilation // 2
    return graph.op(
        "Conv",
        source,
        graph.constant(weights),
        dilations=[dilation],
        pads=[padding, padding],
        kernel_shape=[KERNEL_LENGTH],
    )


def _run_convolutions(
    series: Floats, dilations: list[int], channels: list[Floats], rng: np.random.Generator
) -> list[Floats]:
    """Return, per dilation, the convolution of a few training series ``[84, values]``."""
    count = int(np.clip(FITTED_VALUES // series.shape[2], 2, 32))
    sample = series[np.sort(rng.permutation(len(series))[:count])]
    found = []
    for dilation, weights in zip(dilations, channels, strict=True):
        # One graph per dilation: of a long series, the responses of all together would not fit into memory.
        graph = Graph()
        graph.rename(_convolution(graph, _normalised(graph), weights, dilation), "out")
        session = GraphSession(
            graph.to_bytes(
                [Tensor(name="series", datatype="FP32", shape=(-1, series.shape[1], -1))],
                [Tensor(name="out", datatype="FP32", shape=(-1, len(KERNELS), -1))],
            )
        )
        responses = session.run({"series": sample})["out"]
        found.append(responses.transpose(1, 0, 2).reshape(len(KERNELS), -1))
    return found


def _encoder(
    channels: int, length: int, dilations: list[int], weights: list[Floats], biases: list[Floats]
) -> bytes:
    graph = Graph()
    source = _normalised(graph)
    parts = []
    for dilation, kernel_weights, levels in zip(dilations, weights, biases, strict=True):
        convolved = _convolution(graph, source, kernel_weights, dilation)
        for bias in levels:
            above = graph.op("Greater", convolved, graph.constant(bias[None, :, None]))
            parts.append(
                graph.op(
                    "ReduceMean",
                    graph.op("Cast", above, to=FLOAT),
                    graph.constant(np.array([2], np.int64)),
                    keepdims=0,
                )
            )
    graph.op("Concat", *parts, axis=1, out="embedding")
    width = len(KERNELS) * len(parts)
    return graph.to_bytes(
        [Tensor(name="series", datatype="FP32", shape=(-1, channels, length))],
        [Tensor(name="embedding", datatype="FP32", shape=(-1, width))],
    )
