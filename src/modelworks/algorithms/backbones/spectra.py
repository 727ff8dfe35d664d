"""Signal encoder: log-mel spectra on a grid over the length of the signal, means of it, random kernels over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.kernels import fit_kernel_encoder, stack_series
from modelworks.algorithms.backbones.sources import OWN, width_of
from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.compute.runtime import GraphSession
from modelworks.core.backbone import Backbone, BackboneCard
from modelworks.core.signature import SERIES, Tensor

Floats = npt.NDArray[np.float32]

FLOOR = 1e-4
"""Power, as a share of the signal's mean, below which a band counts as silent."""

AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class SpectraSource:
    """Configuration of ``series.spectra``.

    Attributes:
        frame: Values of a frame; 0 = 256, or less where signals are short.
        bands: Bands of the mel-like scale (linear at the bottom, logarithmic above).
        steps: Points of the grid that the frames of a signal are put on, whatever its length.
        blocks: Stretches of the grid whose means are features.
        features: Responses of random kernels over the grid, about.
        length: Values per signal that the graph takes; 0 for the longest training signal.
    """

    frame: int = 0
    bands: int = 40
    steps: int = 64
    blocks: int = 8
    features: int = 4998
    length: int = 0

    @property
    def card(self) -> BackboneCard:
        """What the encoder is."""
        return BackboneCard(
            name="series.spectra",
            modality="series",
            summary="Log-mel spectra on a grid over the signal: means of stretches, MiniRocket kernels over it.",
            source="Davis & Mermelstein (1980), mel spectra; Dempster, Schmidt & Webb (2021), MiniRocket",
            fitted=True,
            min_samples=2,
            cost_ms=0.05,
        )

    def make(self, samples: Sequence[Any], seed: int) -> Backbone:
        """Fit scales and biases on unlabelled signals (``float32 [channels, length]``, any lengths)."""
        length = self.length or max(item.shape[1] for item in samples)
        channels = int(samples[0].shape[0])
        frame = self.frame or int(np.clip(1 << int(np.log2(max(length / 8, 8))), 8, 256))
        length = max(length, frame)
        stacked = stack_series(samples, length)
        signal = Tensor(name=SERIES, datatype="FP32", shape=(-1, channels, length))
        wide = channels * self.bands
        grid = self._run(signal, frame, stacked)
        plain = _block_means(grid, self.blocks)
        middle, spread = plain.mean(axis=0), np.maximum(plain.std(axis=0), 1e-3)
        kernels = fit_kernel_encoder(grid, features=self.features, seed=seed, least=1e-3)

        graph = Graph()
        looked = self._grid(graph, channels, length, frame)
        pool = _block_matrix(self.steps, self.blocks)
        means = graph.op("MatMul", looked, graph.constant(pool))
        flat = graph.op("Reshape", means, graph.constant(np.array([-1, wide * self.blocks], np.int64)))
        moved = graph.op("Sub", flat, graph.constant(middle[None]))
        # Kernel responses are shares with a deviation of about 0.2; the means are brought to the same size.
        scaled = graph.op("Mul", moved, graph.constant((0.2 / spread)[None].astype(np.float32)))
        held = graph.op("Clip", scaled, graph.constant(np.float32(-2)), graph.constant(np.float32(2)))
        import onnx as library

        (responses,) = graph.adopt(library.load_model_from_string(kernels), {SERIES: looked})
        graph.op("Concat", held, responses, axis=1, out="embedding")
        width = wide * self.blocks + width_of(kernels)
        onnx = graph.to_bytes([signal], [Tensor(name="embedding", datatype="FP32", shape=(-1, width))])
        return Backbone(
            name=self.card.name,
            modality="series",
            onnx=onnx,
            width=width,
            licence=OWN,
            about={"source": self.card.source, "settings": asdict(self), "fitted_on": len(samples)},
        )

    def _run(self, signal: Tensor, frame: int, stacked: Floats) -> Floats:
        """Return the grids of signals, float32 [rows, channels x bands, steps]."""
        graph = Graph()
        graph.rename(self._grid(graph, signal.shape[1], signal.shape[2], frame), "grid")
        out = Tensor(name="grid", datatype="FP32", shape=(-1, signal.shape[1] * self.bands, self.steps))
        session = GraphSession(graph.to_bytes([signal], [out]))
        parts = [
            session.run({SERIES: stacked[start : start + AT_ONCE]})["grid"]
            for start in range(0, len(stacked), AT_ONCE)
        ]
        return np.concatenate(parts)

    def _grid(self, graph: Graph, channels: int, length: int, frame: int) -> str:
        """Add log band powers of ``series`` on the grid, [rows, channels x bands, steps]."""
        hop = max(1, frame // 2)
        frames = (length - frame) // hop + 1
        zero, one = graph.constant(np.float32(0)), graph.constant(np.float32(1))
        axis = {name: graph.constant(np.array([place], np.int64)) for name, place in (("1", 1), ("2", 2))}
        missing = graph.op("IsNaN", SERIES)
        present = graph.cast(graph.op("Not", missing), FLOAT)
        known = graph.op("Where", missing, zero, SERIES)
        count = graph.op("Max", graph.op("ReduceSum", present, axis["2"]), one)
        level = graph.op("Div", graph.op("ReduceSum", known, axis["2"]), count)
        centred = graph.op("Mul", graph.op("Sub", known, level), present)
        lines = graph.op("Reshape", centred, graph.constant(np.array([-1, 1, length], np.int64)))
        waves = graph.op("Conv", lines, graph.constant(_fourier(frame)), strides=[hop], kernel_shape=[frame])
        power = graph.op("Mul", waves, waves)
        bands = graph.op("MatMul", graph.constant(_mel(frame, self.bands)), power)
        bands = graph.op(
            "Reshape", bands, graph.constant(np.array([-1, channels * self.bands, frames], np.int64))
        )
        weights = self._weights(graph, present, length, frame, hop, frames)
        sizes = graph.op("ReduceMean", bands, graph.constant(np.array([1, 2], np.int64)))
        share = graph.op("Div", bands, graph.op("Add", sizes, graph.constant(np.float32(1e-20))))
        logs = graph.op("Log", graph.op("Add", share, graph.constant(np.float32(FLOOR))))
        return graph.op("MatMul", logs, weights)

    def _weights(self, graph: Graph, present: str, length: int, frame: int, hop: int, frames: int) -> str:
        """Add the weights that put the frames before a signal's end on the grid, [rows, frames, steps]."""
        # The end of a signal is its last known value of any channel.
        places = graph.constant(np.arange(1, length + 1, dtype=np.float32)[None, None, :])
        ends = graph.op(
            "ReduceMax", graph.op("Mul", present, places), graph.constant(np.array([1, 2], np.int64))
        )
        used = graph.op(
            "Div", graph.op("Sub", ends, graph.constant(np.float32(frame))), graph.constant(np.float32(hop))
        )
        used = graph.op("Add", graph.op("Floor", used), graph.constant(np.float32(1)))
        used = graph.op("Clip", used, graph.constant(np.float32(1)), graph.constant(np.float32(frames)))
        place = graph.constant((np.arange(frames, dtype=np.float32) + 0.5)[None, :, None])
        ratio = graph.op("Div", graph.constant(np.float32(self.steps)), used)
        wanted = graph.constant((np.arange(self.steps, dtype=np.float32) + 0.5)[None, None, :])
        gap = graph.op("Abs", graph.op("Sub", graph.op("Mul", place, ratio), wanted))
        reach = graph.op("Max", ratio, graph.constant(np.float32(1)))
        near = graph.op("Relu", graph.op("Sub", graph.constant(np.float32(1)), graph.op("Div", gap, reach)))
        inside = graph.cast(graph.op("Less", place, used), FLOAT)
        # Grid points before the first and behind the last frame take that frame.
        near = graph.op("Mul", graph.op("Add", near, graph.constant(np.float32(1e-6))), inside)
        total = graph.op("ReduceSum", near, graph.constant(np.array([1], np.int64)))
        return graph.op("Div", near, total)


def _fourier(frame: int) -> Floats:
    """Return cosines and sines under a Hann window as filters, float32 [2 x (frame / 2 + 1), 1, frame]."""
    time = np.arange(frame)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (time + 0.5) / frame)
    angle = 2 * np.pi * np.outer(np.arange(frame // 2 + 1), time) / frame
    return np.concatenate([np.cos(angle), np.sin(angle)])[:, None, :].astype(np.float32) * window.astype(
        np.float32
    )


def _mel(frame: int, bands: int) -> Floats:
    """Return triangular bands over the squared waves, float32 [bands, 2 x (frame / 2 + 1)].

    The scale is the mel scale for a rate of 8 kHz, whatever the rate: linear up to about an eighth of the highest
    frequency, then logarithmic. Bands narrower than a line of the spectrum read the nearest lines.
    """
    lines = frame // 2 + 1
    hertz = np.linspace(0, 4000, lines)
    mel = 1127 * np.log1p(hertz / 700)
    edges = np.linspace(mel[0], mel[-1], bands + 2)
    width = np.maximum(np.diff(edges)[0], np.gradient(mel).max() if lines < bands else 0.0)
    low = 1 - np.abs(mel[None, :] - edges[1:-1, None]) / np.maximum(width, np.gradient(mel)[None, :])
    weights = np.maximum(low, 0)
    weights[:, 0] = 0
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / np.where(total > 0, total, 1)
    return np.concatenate([weights, weights], axis=1).astype(np.float32)


def _block_matrix(steps: int, blocks: int) -> Floats:
    """Return the matrix [steps, blocks] that takes means of stretches."""
    found = np.zeros((steps, blocks), np.float32)
    for index, part in enumerate(np.array_split(np.arange(steps), blocks)):
        found[part, index] = 1 / len(part)
    return found


def _block_means(grid: Floats, blocks: int) -> Floats:
    """Return the means of stretches, float32 [rows, channels x bands x blocks]."""
    return np.asarray((grid @ _block_matrix(grid.shape[2], blocks)).reshape(len(grid), -1))
