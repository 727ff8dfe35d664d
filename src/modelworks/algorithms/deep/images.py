"""Estimator ``deep.images``: a compact residual network on pixels, or a pretrained encoder that is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.deep.doors import ImageDoor
from modelworks.algorithms.deep.fitting import (
    KINDS,
    Common,
    Design,
    Rowset,
    batch_for,
    planned_passes,
)
from modelworks.core.estimator import Card
from modelworks.core.task import TaskKind
from modelworks.training.deep.augmentation import mirrors_keep_labels
from modelworks.training.deep.plan import Augmentation, Plan
from modelworks.training.deep.search import Choice, Settings

_FLOPS = {16: 30e9, 32: 45e9}
"""Operations a second of one core by width, as measured with AVX2; wider layers fill its registers better."""
_MACS_PER_MS = 4e7
_STRENGTHS: dict[str, Augmentation] = {
    "light": Augmentation(shift=0.06, colour=0.1),
    "medium": Augmentation(shift=0.1, zoom=0.15, colour=0.2, cutout=0.25),
    "strong": Augmentation(shift=0.12, zoom=0.25, turn=12.0, colour=0.3, cutout=0.4, mixup=0.2),
}


@dataclass(frozen=True, kw_only=True)
class DeepImages(Common):
    """Configuration.

    Attributes:
        side: Side in pixels that images are resized to; 0 = 32 for small images, else 64.
        flip: Whether images may be mirrored; ``auto`` looks whether mirror images still resemble their class.
        folder: Folder of a Hugging Face image encoder to fine-tune instead of training from nothing.
    """

    side: int = 0
    flip: Literal["auto", "yes", "no"] = "auto"
    folder: str = ""

    @property
    def card(self) -> Card:
        """What the recipe is."""
        return Card(
            name="deep.images",
            version=1,
            kinds=KINDS,
            summary="A compact residual network trained on the pixels, or a fine-tuned encoder.",
            source="He et al. (2016), Deep residual learning for image recognition",
            min_rows=20,
        )

    def design(self, rows: Rowset, budget_s: float) -> Design:
        """Return the network and its training for some rows and a budget."""
        from modelworks.training.deep.networks import NetworkSpec, multiplications

        door: Any = rows.door
        spec = NetworkSpec(kind="image", outputs=rows.problem.outputs, width=16, side=door.side)
        if self.folder:
            spec = replace(spec, kind="pretrained", folder=self.folder, modality="image")
        elif self.width:
            spec = replace(spec, width=self.width)
        else:
            spec = self._widest(spec, len(rows.train), budget_s)
        cost = _row_cost_s(multiplications(spec), spec.width)
        plan = Plan(
            batch=batch_for(len(rows.train), planned_passes(cost, budget_s, len(rows.train))),
            rate=5e-3 if not self.folder else 1e-3,
            body_rate=0.1,
            average=0.99,
            patience=12,
        )
        space = (
            Choice(name="rate", low=1e-3, high=1.5e-2),
            Choice(name="variation", values=tuple(_STRENGTHS)),
        )
        mirrored = self._mirrored(rows)

        def apply(plan: Plan, settings: Settings) -> Plan:
            how = replace(_STRENGTHS[settings["variation"]], flip=mirrored)
            return replace(plan, rate=settings["rate"], augmentation=how)

        passes = planned_passes(cost, budget_s, len(rows.train))
        first = {"rate": plan.rate, "variation": "medium" if passes >= 20 else "light"}
        return Design(
            spec=spec,
            plan=apply(plan, first),
            space=space,
            apply=apply,
            first=first,
            row_cost_s=cost,
            most_epochs=60,
        )

    def door(self, payloads: npt.NDArray[Any]) -> ImageDoor:
        """Return the door of images ``[rows]``: the side that they are resized to."""
        if self.side:
            return ImageDoor(side=self.side)
        from modelworks.compute.payloads import image_pixels

        sides = [min(image_pixels(value, 0).shape[:2]) for value in payloads[:50]]
        return ImageDoor(side=32 if np.median(sides) <= 40 else 64)

    def _widest(self, spec: Any, rows: int, budget_s: float) -> Any:
        """Take the wider network if the budget allows it fifteen passes and the latency limit its answer."""
        from modelworks.training.deep.networks import multiplications

        wide = replace(spec, width=32)
        work = multiplications(wide)
        quick = work / _MACS_PER_MS <= 0.5 * self.limits.latency_ms
        return wide if quick and planned_passes(_row_cost_s(work, wide.width), budget_s, rows) >= 15 else spec

    def _mirrored(self, rows: Rowset) -> bool:
        if self.flip != "auto":
            return self.flip == "yes"
        if rows.problem.kind not in (TaskKind.BINARY, TaskKind.MULTICLASS):
            return False
        return mirrors_keep_labels(rows.examples.inputs[rows.train], rows.problem.target[rows.train])


def _row_cost_s(work: float, width: int) -> float:
    """Return the declared CPU-seconds of one row in one pass, from the multiplications of its forward pass."""
    return 6 * work / _FLOPS[32 if width >= 32 else 16] + 4e-4
