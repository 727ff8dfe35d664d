"""A task: what to predict, from which data, how good it must be, and within which limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from modelworks.core.errors import TaskError, close_matches

Modality = Literal["table", "image", "text", "series"]


class TaskKind(StrEnum):
    """What kind of answer the model gives."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    MULTILABEL = "multilabel"
    ANOMALY = "anomaly"
    FORECAST = "forecast"


_BOUND = re.compile(r"^\s*(>=|<=|>|<)\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*$")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One condition of a gate: ``metric`` ``relation`` ``value``, e.g. ``roc_auc >= 0.80``."""

    metric: str
    relation: Literal[">=", "<=", ">", "<"]
    value: float

    @staticmethod
    def parse(metric: str, text: str | float | int) -> Bound:
        """Parse ``">= 0.80"``.

        Raises:
            TaskError: The text is not a relation and a number.
        """
        match = _BOUND.match(str(text))
        if match is None:
            raise TaskError(
                f"Gate on '{metric}': cannot read '{text}'.",
                code="MW1203",
                hint=f'write it as {metric}: ">= 0.80"',
            )
        relation: Any = match.group(1)
        return Bound(metric=metric, relation=relation, value=float(match.group(2)))

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.value:g}"


@dataclass(frozen=True, kw_only=True)
class SplitPolicy:
    """How rows are parted into training and sealed test rows.

    Attributes:
        kind: ``auto`` (grouped if ``group`` is set, by time if ``time`` is set, else stratified random),
            ``random``, ``group`` or ``time``.
        group: Column whose values must not be on both sides.
        time: Column whose later values form the test part.
        test_share: Share of rows that is sealed, in (0, 0.5].
        test_data: Source of a ready-made test table instead of a share.
    """

    kind: Literal["auto", "random", "group", "time"] = "auto"
    group: str | None = None
    time: str | None = None
    test_share: float = 0.2
    test_data: str | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the shipped model and its making may cost.

    Attributes:
        latency_ms: Single-row time in ONNX Runtime on one thread, 99th percentile, milliseconds.
        size_mb: Bytes of ``model.onnx`` / 10**6.
        budget_s: CPU-seconds for fitting.
        memory_mb: Peak memory of any one job.
    """

    latency_ms: float = 2.0
    size_mb: float = 10.0
    budget_s: float = 60.0
    memory_mb: int = 4096


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to predict, from what, how good, within which limits.

    Attributes:
        name: Letters, digits, ``.``, ``_`` and ``-``; unique in its order.
        data: Path, URL or dataset reference of the source.
        target: Column to predict; several columns for ``multilabel``.
        kind: ``None`` lets the data decide; the choice is shown.
        metric: ``None`` takes the practitioner's default for the kind.
        gate: Conditions on top of the default gate.
        slices: Columns by whose values quality is reported and gated.
        exclude: Columns the model may not read.
        weight: Column of row weights (not read by the model).
        positive: Class that counts as positive in a binary task.
        quantiles: Quantile levels of interval outputs for regression.
        kinds: Column kinds set by the user.
        seed: Seed of every random choice.
        explain: Whether importance is computed for the report.
        options: Options of the modality or recipe that this contract does not name.
    """

    name: str
    data: str
    target: str | tuple[str, ...]
    modality: Modality = "table"
    kind: TaskKind | None = None
    metric: str | None = None
    gate: tuple[Bound, ...] = ()
    limits: Limits = field(default_factory=Limits)
    split: SplitPolicy = field(default_factory=SplitPolicy)
    slices: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    weight: str | None = None
    positive: str | None = None
    quantiles: tuple[float, ...] = ()
    kinds: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    explain: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise TaskError(
                f"Task name '{self.name}' may hold only letters, digits, '.', '_' and '-' (1 to 100).",
                code="MW1201",
            )
        if not 0 < self.split.test_share <= 0.5:
            raise TaskError(
                f"Task '{self.name}': test_share is {self.split.test_share:g}, must be in (0, 0.5].",
                code="MW1202",
            )

    @property
    def targets(self) -> tuple[str, ...]:
        """The target columns, one or several."""
        return (self.target,) if isinstance(self.target, str) else self.target


def parse_kind(text: str) -> TaskKind:
    """Return the task kind named ``text``.

    Raises:
        TaskError: There is no such kind.
    """
    try:
        return TaskKind(text)
    except ValueError:
        raise TaskError(
            f"There is no task kind '{text}'.{close_matches(text, TaskKind)}",
            code="MW1204",
            hint="kinds: " + ", ".join(TaskKind),
        ) from None
