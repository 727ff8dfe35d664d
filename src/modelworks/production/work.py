"""What a run of an order knows beside the order, and one task on its way to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelworks.core.task import Task
from modelworks.core.verdict import Measure, Verdict
from modelworks.production.plan import Planned
from modelworks.production.results import LineResult
from modelworks.workflow.call import Handle


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a run of an order needs to know beside the order.

    Attributes:
        run: Run id.
        key: File of the signing key.
        memory: Whether what earlier tasks taught is used.
        stamp: Tells the state of a remote source, so that a changed one is read again.
        stopped: Whether somebody asked to stop.
        strict: Whether a mistake in a line is raised instead of becoming a verdict.
        again: Whether the run had ended before: remote sources are looked at again.
    """

    run: str
    key: Path
    memory: bool = True
    stamp: Callable[[str], str] = str
    stopped: Callable[[], bool] = bool
    strict: bool = False
    again: bool = False


class Work:
    """One task on its way to a verdict.

    Args:
        planned: The task and its forecast.
        table: The call that read its table.
        peers: All tasks over samples of its line, itself among them; empty for a task on a table.
    """

    def __init__(self, planned: Planned, table: Handle, peers: Sequence[Task] = ()) -> None:
        self.planned = planned
        self.task = planned.task
        self.table = table
        self.peers = peers
        self.embeds: dict[str, Handle] = {}
        self.fitted: dict[str, Any] = {}
        self.fit: Handle | None = None
        self.escalated: Handle | None = None
        self.judged: Handle | None = None
        self.look = 0
        self.champion = ""
        self.created = 0.0

    @property
    def place(self) -> int:
        """Which of its peers it is."""
        return [task.name for task in self.peers].index(self.task.name)

    @property
    def priority(self) -> float:
        return float(self.planned.line.priority)

    def result(self, verdict: Verdict, **more: Any) -> LineResult:
        """Return how it ended: the verdict, and what its fit and its judgement found as far as they came."""
        result = LineResult(
            task=self.task.name,
            target=self.task.targets,
            data=self.task.data,
            verdict=verdict,
            kind=self.planned.facts.kind,
            deploy=bool(self.planned.line.settings.get("deploy", False)),
            **more,
        )
        if "kind" in self.fitted:
            result = replace(result, kind=self.fitted["kind"], rows=self.fitted["rows"])
        if self.judged is not None and self.judged.ok:
            value = self.judged.value
            result = replace(
                result,
                metric=value["metric"],
                measures=tuple(Measure.from_json(item) for item in value["measures"]),
                baseline=value["baseline"],
                latency_ms=value["latency_ms"],
                size_mb=value["size_mb"],
                findings=tuple(value["findings"]),
                chosen=str(value["chosen"]),
                looks=self.look,
            )
        return result
