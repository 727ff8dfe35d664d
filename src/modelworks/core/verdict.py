"""How an order line ended, and on which evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class VerdictKind(StrEnum):
    """The four ends of an order line."""

    RELEASED = "released"
    REFUSED = "refused"
    NEEDS_EVIDENCE = "needs_evidence"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measured value with its interval.

    Attributes:
        name: Metric name, e.g. ``roc_auc``.
        value: Point estimate on the shipped graph.
        low, high: Ends of the interval at ``level``.
        n: Rows it was computed from.
        method: ``exact``, ``score``, ``delong``, ``bootstrap``, ``delta`` or ``none``.
        higher_is_better: Direction.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    method: str = "bootstrap"
    level: float = 0.95
    higher_is_better: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Measure:
        return Measure(**data)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One condition of the gate and how it came out.

    Attributes:
        name: What was checked, e.g. ``roc_auc >= 0.8`` or ``beats the best baseline``.
        outcome: ``passed``, ``failed`` or ``unknown`` (too few rows to say).
        detail: One sentence with the numbers.
        slice: Slice it was checked on, or empty for all rows.
        needed: For ``unknown``: how many more rows would decide it.
    """

    name: str
    outcome: str
    detail: str
    slice: str = ""
    needed: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Check:
        return Check(**data)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How an order line ended.

    Attributes:
        kind: One of the four.
        cause: One sentence a practitioner understands.
        fix: The cheapest next action, for anything but ``released``.
        needed: For ``needs_evidence``: slice (or ``all rows``) -> rows still to collect.
        checks: The gate, condition by condition.
    """

    kind: VerdictKind
    cause: str
    fix: str = ""
    needed: dict[str, int] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "cause": self.cause,
            "fix": self.fix,
            "needed": dict(self.needed),
            "checks": [check.to_json() for check in self.checks],
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Verdict:
        return Verdict(
            kind=VerdictKind(data["kind"]),
            cause=data["cause"],
            fix=data.get("fix", ""),
            needed={str(key): int(value) for key, value in data.get("needed", {}).items()},
            checks=tuple(Check.from_json(item) for item in data.get("checks", ())),
        )
