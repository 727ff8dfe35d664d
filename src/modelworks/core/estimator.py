"""The contract of an algorithm: fit under a budget, return a model that is an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from modelworks.core.budget import Budget
from modelworks.core.signature import Signature
from modelworks.core.task import TaskKind


@dataclass(frozen=True, kw_only=True)
class Card:
    """What an algorithm is, for people and for the planner.

    Attributes:
        name: Registry name, e.g. ``tables.boosted``.
        version: Changes whenever results change.
        kinds: Task kinds it can do.
        summary: One sentence.
        source: Paper or standard of the method.
        licence: SPDX identifier of the method's code.
        max_rows: Rows above which it is not tried.
        min_rows: Rows below which it is not tried.
        max_classes: Classes above which it is not tried.
        cost: ``(a, b)`` of the cost model ``a + b * rows * features * outputs`` in CPU-seconds.
    """

    name: str
    version: int
    kinds: frozenset[TaskKind]
    summary: str
    source: str
    licence: str = "Apache-2.0"
    max_rows: int = 10**9
    min_rows: int = 2
    max_classes: int = 10**6
    cost: tuple[float, float] = (0.01, 1e-7)


@dataclass(frozen=True, kw_only=True)
class FittedModel:
    """A fitted model: a graph, its signature and what is known about the fit.

    Attributes:
        onnx: Bytes of one graph from raw inputs to named outputs; standard operator domains.
        signature: Its typed inputs and outputs.
        diagnostics: Plain JSON data: members with their out-of-fold loss, CPU-seconds and weight,
            decision threshold, why this model was chosen, training history.
    """

    onnx: bytes
    signature: Signature
    diagnostics: dict[str, Any] = field(default_factory=dict)


class Estimator(Protocol):
    """An algorithm. The object is its frozen, keyword-only configuration dataclass.

    ``train`` and ``valid`` are the modality's sample sets (for tables
    ``modelworks.data.TrainingTable``). Implementations pass ``modelworks.testing.estimator_suite``:
    equal bytes for one seed, graph equals native prediction, one row equals a batch,
    missing and unseen values handled, budget kept, cancellation prompt.
    """

    @property
    def card(self) -> Card:
        """What the algorithm is."""
        ...

    def fit(self, train: Any, valid: Any, budget: Budget, seed: int) -> FittedModel:
        """Fit on ``train``; ``valid`` may be used for early stopping and choice only.

        Raises:
            BudgetStopped: The budget ended before there was any model.
            Cancelled: The budget was cancelled.
        """
        ...
