"""How a network is trained: every number that decides the result, as one plain value."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far training inputs are varied; zero leaves them alone.

    Attributes:
        flip: Mirror half of the images left to right.
        shift: Images: share of the side they are moved by, at most. Series: share of the length.
        zoom: Images: largest relative change of size.
        turn: Images: largest turn in degrees.
        colour: Images: largest relative change of brightness, contrast and saturation.
        cutout: Share of an image's side, or of a series' length, that is blanked.
        scale: Series: spread of the factor per channel.
        noise: Series: standard deviation of added noise, in spreads of the channel. Text: share of
            characters or tokens that are blanked.
        mixup: Parameter of the beta distribution of mixed pairs.
    """

    flip: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    turn: float = 0.0
    colour: float = 0.0
    cutout: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    mixup: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training run.

    Attributes:
        epochs: Passes over the training rows.
        batch: Rows of one step, over all processes together.
        rate: Peak learning rate of AdamW.
        decay: Weight decay of matrices (never of biases and norms).
        warmup: Share of the steps in which the rate rises.
        schedule: ``cosine``, or ``one_cycle`` (the rate also starts at a tenth and ends at a thousandth).
        smoothing: Label smoothing.
        average: Decay of the running mean of the weights per step, which is what is judged and kept; 0 = none.
        clip: Largest norm of a gradient.
        patience: Epochs without a better validation loss after which training ends; 0 = never.
        body_rate: Factor of the learning rate of pretrained layers.
        precision: ``auto`` (bf16 where the device multiplies it), ``fp32`` or ``bf16``.
        threads: Threads of one operation.
        device: ``auto``, ``cpu`` or ``cuda``.
        augmentation: How inputs are varied.
    """

    epochs: int = 10
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.05
    warmup: float = 0.15
    schedule: Literal["cosine", "one_cycle"] = "one_cycle"
    smoothing: float = 0.05
    average: float = 0.0
    clip: float = 5.0
    patience: int = 0
    body_rate: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = 1
    device: str = "auto"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def steps_per_epoch(self, rows: int) -> int:
        """Return the steps of one pass; the last batch may be smaller but never holds a single row of many."""
        full, rest = divmod(rows, self.batch)
        return max(1, full + (1 if rest > 1 or (rest and not full) else 0))

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Source: Loshchilov & Hutter (2017), SGDR; Smith & Topin (2018), Super-convergence (one cycle).
        """
        low, end = (0.1, 1e-3) if self.schedule == "one_cycle" else (0.0, 0.0)
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return self.rate * (low + (1 - low) * (step + 1) / rise)
        done = (step - rise + 1) / max(1, steps - rise)
        return self.rate * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done)))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Plan:
        """Rebuild a plan from plain data."""
        return Plan(**{**data, "augmentation": Augmentation(**data["augmentation"])})
