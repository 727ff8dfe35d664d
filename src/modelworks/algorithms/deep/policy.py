"""What a task says about models beyond a head: when a network is tried, with which settings, in which precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelworks.core.errors import TaskError, close_matches
from modelworks.core.task import Bound, Limits, Task

RECIPES: Mapping[str, str] = {"image": "deep.images", "text": "deep.text", "series": "deep.series"}
SETTINGS = frozenset(
    {
        "epochs",
        "trials",
        "width",
        "balanced",
        "precision",
        "threads",
        "side",
        "flip",
        "folder",
        "depth",
        "buckets",
    }
)
"""Settings of deep recipes that a task may name under ``network``."""
OPTIONS = ("escalate", "int8", "network")
"""Options of a task that say so; a head does not depend on them."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When more than a head is tried.

    Attributes:
        mode: ``auto`` (when the head misses a bound of the gate on held-out training rows), ``never`` or ``always``.
        gate: The task's bounds.
        metric: Metric of the task.
        limits: What the model may cost.
        int8: ``auto`` tries the graph of a network in int8, which is measured; ``never`` does not.
        options: Settings of the deep recipe.
        checkpoint: File that a training which was stopped goes on from; empty = none.
    """

    mode: Literal["auto", "never", "always"] = "auto"
    gate: tuple[Bound, ...] = ()
    metric: str | None = None
    limits: Limits = field(default_factory=Limits)
    int8: Literal["auto", "never"] = "never"
    options: tuple[tuple[str, Any], ...] = ()
    checkpoint: str = ""


def policy_of(task: Task, checkpoint: str = "") -> Policy:
    """Read a task's policy from its options ``escalate``, ``int8`` and ``network`` (settings of the deep recipe).

    Raises:
        TaskError: An option has a value that there is not.
    """
    found: dict[str, Any] = {}
    for name, known in (("escalate", ("auto", "never", "always")), ("int8", ("never", "auto"))):
        value = str(task.options.get(name, known[0]))
        if value not in known:
            raise TaskError(
                f"Task '{task.name}': there is no {name} '{value}'.{close_matches(value, known)}",
                code="MW1234",
                hint=f"{name}: " + " | ".join(known),
            )
        found[name] = value
    settings = dict(task.options.get("network") or {})
    strange = sorted(set(settings) - SETTINGS)
    if strange:
        raise TaskError(
            f"Task '{task.name}': a network has no setting '{strange[0]}'.{close_matches(strange[0], SETTINGS)}",
            code="MW1235",
            hint="network: " + ", ".join(sorted(SETTINGS)),
        )
    return Policy(
        mode=found["escalate"],
        int8=found["int8"],
        gate=task.gate,
        metric=task.metric,
        limits=task.limits,
        options=tuple(sorted(settings.items())),
        checkpoint=checkpoint,
    )
