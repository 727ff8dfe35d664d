"""Estimator ``deep.text``: hashed n-grams and convolutions over the characters of a text, in the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.deep.doors import TextDoor
from modelworks.algorithms.deep.fitting import KINDS, Common, Design, Rowset
from modelworks.core.estimator import Card
from modelworks.training.deep.plan import Augmentation, Plan
from modelworks.training.deep.search import Choice, Settings

_FLOPS = 10e9


@dataclass(frozen=True, kw_only=True)
class DeepText(Common):
    """Configuration.

    Attributes:
        depth: Convolutions over the characters.
        buckets: Rows of the table of hashed n-grams.
    """

    depth: int = 2
    buckets: int = 32768

    @property
    def card(self) -> Card:
        """What the recipe is."""
        return Card(
            name="deep.text",
            version=1,
            kinds=KINDS,
            summary="Learned vectors of hashed character n-grams beside convolutions over the characters.",
            source="Joulin et al. (2017), Bag of tricks for efficient text classification; Kim (2014)",
            min_rows=20,
        )

    def door(self, payloads: npt.NDArray[Any]) -> TextDoor:
        """Return the door of texts ``[rows]``: their symbols and length."""
        return TextDoor.fit(payloads)

    def design(self, rows: Rowset, budget_s: float) -> Design:
        """Return the network and its training for some rows."""
        from modelworks.training.deep.networks import NetworkSpec, multiplications

        door: Any = rows.door
        spec = NetworkSpec(
            kind="text", outputs=rows.problem.outputs, width=self.width or 16, depth=self.depth,
            length=door.length, symbols=door.symbols, buckets=self.buckets, dropout=0.3,
        )  # fmt: skip
        plan = Plan(
            batch=int(np.clip(len(rows.train) // 20, 8, 64)),
            rate=4e-3,
            average=0.98,
            patience=6,
            smoothing=0.05,
        )
        space = (Choice(name="rate", low=1e-3, high=2e-2), Choice(name="blanks", values=(0.0, 0.05, 0.15)))
        first = {"rate": plan.rate, "blanks": 0.05}
        # The n-grams cost memory traffic, not multiplications: about a microsecond a character.
        cost = 6 * multiplications(spec) / _FLOPS + 3e-6 * door.length
        return Design(
            spec=spec,
            plan=apply(plan, first),
            space=space,
            apply=apply,
            first=first,
            row_cost_s=cost,
            most_epochs=30,
        )


def apply(plan: Plan, settings: Settings) -> Plan:
    """Return the plan with settings of the search."""
    return replace(plan, rate=settings["rate"], augmentation=Augmentation(noise=settings["blanks"]))
