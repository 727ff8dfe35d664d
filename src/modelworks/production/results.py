"""How an order and each of its lines ended: the values that the command line, the API and reports show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelworks.core.verdict import Measure, Verdict, VerdictKind


@dataclass(frozen=True, kw_only=True)
class LineResult:
    """How one task ended.

    Attributes:
        task: Task name.
        target: Column or columns that are predicted.
        data: Source of the table.
        kind: Task kind, empty if it was never known.
        metric: Metric it was chosen and judged by.
        verdict: How it ended, on which evidence.
        measures: Metrics with intervals on the sealed test rows, through the shipped graph.
        baseline: Name and value of the best baseline in ``metric``.
        rows: Training and test rows.
        chosen: Why this model.
        latency_ms: Single-row time, 99th percentile.
        size_mb: Size of the graph.
        package: Digest of the package, empty unless released.
        path: Folder of the published package.
        report: HTML report of this model.
        findings: What the guard found.
        looks: How often this sealed test set had been looked at, with this time.
        cost: Bill of the task, its share of shared work included.
        deploy: Whether the order asks for it to be served once it is released.
        deployed: ``endpoint, version, at`` once it is, or ``error``.
    """

    task: str
    target: tuple[str, ...]
    data: str
    verdict: Verdict
    kind: str = ""
    metric: str = ""
    measures: tuple[Measure, ...] = ()
    baseline: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    chosen: str = ""
    latency_ms: float | None = None
    size_mb: float | None = None
    package: str = ""
    path: str = ""
    report: str = ""
    findings: tuple[dict[str, Any], ...] = ()
    looks: int = 0
    cost: dict[str, Any] = field(default_factory=dict)
    deploy: bool = False
    deployed: dict[str, Any] = field(default_factory=dict)

    @property
    def primary(self) -> Measure | None:
        """The measure of ``metric``, if it was measured."""
        return next((measure for measure in self.measures if measure.name == self.metric), None)

    @property
    def released(self) -> bool:
        return self.verdict.kind is VerdictKind.RELEASED

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "target": list(self.target),
            "data": self.data,
            "kind": self.kind,
            "metric": self.metric,
            "verdict": self.verdict.to_json(),
            "measures": [measure.to_json() for measure in self.measures],
            "baseline": self.baseline,
            "rows": self.rows,
            "chosen": self.chosen,
            "latency_ms": self.latency_ms,
            "size_mb": self.size_mb,
            "package": self.package,
            "path": self.path,
            "report": self.report,
            "findings": list(self.findings),
            "looks": self.looks,
            "cost": self.cost,
            "deploy": self.deploy,
            "deployed": self.deployed,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> LineResult:
        return LineResult(
            **{
                **data,
                "target": tuple(data["target"]),
                "verdict": Verdict.from_json(data["verdict"]),
                "measures": tuple(Measure.from_json(item) for item in data["measures"]),
                "findings": tuple(data["findings"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class OrderResult:
    """How an order ended.

    Attributes:
        name: Name of the order.
        run: Id of its run, the same for the same order.
        lines: One result per task, in the order of work.
        cost: Bill of the whole run; equals the sum of its attempts.
        forecast: What was foretold, and by how much it was off.
        curve: Cost of task n.
        report: HTML report of the order.
        resume: The command that goes on with it, empty when nothing is left.
    """

    name: str
    run: str
    lines: tuple[LineResult, ...]
    cost: dict[str, Any] = field(default_factory=dict)
    forecast: dict[str, Any] = field(default_factory=dict)
    curve: tuple[dict[str, float], ...] = ()
    report: str = ""
    resume: str = ""

    def count(self, kind: VerdictKind | str) -> int:
        """Return how many lines ended so."""
        return sum(line.verdict.kind == kind for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "run": self.run,
            "verdicts": {str(kind): self.count(kind) for kind in VerdictKind},
            "lines": [line.to_json() for line in self.lines],
            "cost": self.cost,
            "forecast": self.forecast,
            "curve": list(self.curve),
            "report": self.report,
            "resume": self.resume,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> OrderResult:
        values = {key: value for key, value in data.items() if key != "verdicts"}
        return OrderResult(
            **{
                **values,
                "lines": tuple(LineResult.from_json(line) for line in data["lines"]),
                "curve": tuple(data["curve"]),
            }
        )
