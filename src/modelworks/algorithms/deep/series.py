"""Estimator ``deep.series``: inception blocks over the values of each series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.deep.doors import SeriesDoor
from modelworks.algorithms.deep.fitting import KINDS, Common, Design, Rowset
from modelworks.core.estimator import Card
from modelworks.training.deep.plan import Augmentation, Plan
from modelworks.training.deep.search import Choice, Settings

_FLOPS = 10e9
_STRENGTHS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "light": Augmentation(scale=0.05, noise=0.02, shift=0.02),
    "strong": Augmentation(scale=0.15, noise=0.05, shift=0.06, cutout=0.1, mixup=0.2),
}


@dataclass(frozen=True, kw_only=True)
class DeepSeries(Common):
    """Configuration.

    Attributes:
        depth: Inception blocks; every third ends in a residual sum.
    """

    depth: int = 3

    @property
    def card(self) -> Card:
        """What the recipe is."""
        return Card(
            name="deep.series",
            version=1,
            kinds=KINDS,
            summary="A compact inception network over the values of a series.",
            source="Ismail Fawaz et al. (2020), InceptionTime",
            min_rows=20,
        )

    def door(self, payloads: npt.NDArray[Any]) -> SeriesDoor:
        """Return the door of series ``[rows]``: one length, standardised channels."""
        return SeriesDoor.fit(payloads)

    def design(self, rows: Rowset, budget_s: float) -> Design:
        """Return the network and its training for some rows."""
        from modelworks.training.deep.networks import NetworkSpec, multiplications

        door: Any = rows.door
        spec = NetworkSpec(
            kind="series", outputs=rows.problem.outputs, width=self.width or 16, depth=self.depth,
            channels=len(door.mean), length=door.length,
        )  # fmt: skip
        plan = Plan(batch=int(np.clip(len(rows.train) // 10, 8, 64)), rate=2e-3, average=0.98, patience=25)
        space = (Choice(name="rate", low=4e-4, high=8e-3), Choice(name="variation", values=tuple(_STRENGTHS)))
        first = {"rate": plan.rate, "variation": "light"}
        return Design(
            spec=spec, plan=apply(plan, first), space=space, apply=apply, first=first,
            row_cost_s=6 * multiplications(spec) / _FLOPS + 2e-4, most_epochs=120,
        )  # fmt: skip


def apply(plan: Plan, settings: Settings) -> Plan:
    """Return the plan with settings of the search."""
    return replace(plan, rate=settings["rate"], augmentation=_STRENGTHS[settings["variation"]])
