"""The plan: what each task looks like before it is fitted, what it should take, and in which order it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelworks.core.errors import TaskError
from modelworks.core.schema import FEATURE_KINDS, Schema
from modelworks.core.task import Task, TaskKind
from modelworks.production.forecast import Forecast, forecast_fit, total_of
from modelworks.production.look_forecast import Looks, forecast_look, look_of
from modelworks.production.memory import Facts, Lesson, facts_of
from modelworks.production.order import Line
from modelworks.production.sample_fitting import learns_normal
from modelworks.production.streams import is_stream, stream_columns

AFTER_COST = (0.45, 1e-7)
"""CPU-seconds of everything about a task but its fit (survey, baselines, scoring, papers, replay, scheduling): a base,
and per row x feature x output. Measured with ``benchmarks/order200``, as the others here."""

HEAD_BASE, HEAD_COST, SAMPLE_AFTER = 0.1, 1e-4, 0.4
"""CPU-seconds of a task over samples: fixed, per row of its head, and of everything after."""

RIVAL_COST = 2.2e-3
"""CPU-seconds of a model of its own that is tried beside the head (of words), per row."""

FORECAST_COST, ALARM_COST = (0.3, 0.048), (0.3, 0.012)
"""CPU-seconds of a fit on running series: a base, and per root of all their values (144 to 417,000 were measured)."""

NORMAL_COST, NORMAL_IMAGES = (1.0, 0.08), 600
"""CPU-seconds of learning what is normal: a base, and per image; and how many images it takes, at most."""

READ_COST = (0.08, 2e-7)
"""CPU-seconds of reading and profiling a table: a base, and per row x column."""

START_COST = (0.8, 1.0)
"""CPU-seconds of starting: the command itself, and each worker."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One task of the plan.

    Attributes:
        line: The line of the order it comes from.
        task: The task, its kind as the data or the user decided.
        facts: What is known of it.
        fit: Forecast of the fit.
        after: CPU-seconds of everything that follows the fit.
        reason: Why this kind.
    """

    line: Line
    task: Task
    facts: Facts
    fit: Forecast
    after: float
    reason: str = ""

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is made earlier: priority first, then due date."""
        return (-self.line.priority, self.line.due if self.line.due is not None else float("inf"))

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "target": list(self.task.targets),
            "data": self.task.data,
            "kind": self.facts.kind,
            "modality": self.task.modality,
            "reason": self.reason,
            "rows": self.facts.rows,
            "features": self.facts.features,
            "classes": self.facts.classes,
            "cpu_s": self.fit.cpu_s + self.after,
            "low": self.fit.low + self.after,
            "high": self.fit.high + self.after,
            "basis": self.fit.basis,
            "priority": self.line.priority,
            "due": self.line.due,
        }


def plan_task(
    line: Line,
    task: Task,
    schema: Schema,
    targets: Mapping[str, Any],
    lessons: Sequence[Lesson],
    peers: int = 1,
    values: int = 0,
    looks: Looks | None = None,
) -> Planned:
    """Plan one task from what ``ingest`` found about its table.

    Args:
        line, task: The line and its task.
        schema: Schema of the table.
        targets: What each column would be as a target (``survey.target_facts``).
        lessons: What memory holds.
        peers: Tasks of the line, which share what is done once for the table.
        values: Values of the longest series among its samples, 0 without any.
        looks: What is known about embedding its table.

    Raises:
        TaskError: The task asks for a metric that its kind does not know, or its samples cannot be used.
    """
    kind, reason, counts, rows = _answer(task, targets, schema.rows)
    _check_metrics(task, kind)
    if is_stream(task):
        return _plan_stream(line, task, schema, values)
    if task.modality != "table":
        return _plan_samples(
            line, task, schema, (kind, reason, counts, rows), peers, values, looks or Looks()
        )
    features = feature_columns(schema, task)
    train = round(rows * (1 - task.split.test_share)) if task.split.test_data is None else rows
    facts = facts_of(schema, features, kind, max(1, train), counts)
    return Planned(
        line=line,
        task=task,
        facts=facts,
        fit=forecast_fit(facts, lessons, task.limits.budget_s),
        after=AFTER_COST[0] + AFTER_COST[1] * facts.rows * max(1, facts.features) * facts.outputs,
        reason=reason,
    )


def _plan_samples(
    line: Line,
    task: Task,
    schema: Schema,
    answer: tuple[str, str, list[int], int],
    peers: int,
    values: int,
    looks: Looks,
) -> Planned:
    """Plan a task over images, texts or series: a share of the embedding, and a head."""
    from modelworks.algorithms.plugins import REFERENCES, recipe_for
    from modelworks.algorithms.samples.recipe import AUTO, check_family
    from modelworks.production.encoders import card_of
    from modelworks.production.escalating import has_rival
    from modelworks.production.sample_calls import backbones_of, may_escalate, payload_of

    kind, reason, counts, rows = answer
    payload = payload_of(schema, task)
    if task.weight is not None:
        raise TaskError(
            f"'{task.name}': heads on samples take no row weights yet.",
            code="MW1238",
            hint="leave weight out",
        )
    check_family(str(task.options.get("head", AUTO)))
    if kind:
        recipe_for(task.modality, TaskKind(kind))
    if learns_normal(task):
        return _plan_own(line, task, schema, payload)
    shared = []
    for name in dict.fromkeys((*backbones_of(task), REFERENCES[task.modality])):
        card = card_of(line, name, task)
        look = look_of(card, schema.rows, task.split.test_share, looks.bytes, values)
        if name not in looks.kept:
            shared.append(forecast_look(card, look, looks.lessons))
    own = HEAD_BASE + (HEAD_COST + (RIVAL_COST if kind and has_rival(task, kind) else 0.0)) * rows
    cost = own + sum(part.cpu_s for part in shared) / peers
    low = own / 2 + sum(part.low for part in shared) / peers
    high = 2 * own + sum(part.high for part in shared) / peers
    network = task.limits.budget_s if may_escalate(task) else 0.0
    always = network if task.options.get("escalate") == "always" else 0.0
    facts = facts_of(schema, [payload], kind, max(1, round(rows * (1 - task.split.test_share))), counts)
    return Planned(
        line=line,
        task=task,
        facts=facts,
        fit=Forecast(
            cpu_s=cost + always,
            low=low,
            high=high + network,
            basis=min((part.basis for part in shared), default=len(looks.lessons)),
        ),
        after=SAMPLE_AFTER,
        reason=f"{task.modality} samples in '{payload}'" + (f"; {reason}" if reason else ""),
    )


def _within(budget_s: float, cost: float) -> Forecast:
    """Return the forecast of a fit that should cost so much, three times less or more, and at most its budget."""
    low, middle, high = (min(budget_s, cost * factor) for factor in (1 / 3, 1, 3))
    return Forecast(cpu_s=middle, low=low, high=high, basis=0)


def _plan_stream(line: Line, task: Task, schema: Schema, longest: int) -> Planned:
    """Plan a task on running series: its race takes what the windows cost, at most its budget."""
    columns = stream_columns(schema, task)
    facts = facts_of(schema, columns.values, str(task.kind), max(1, schema.rows), [])
    values = schema.rows * (longest if columns.listed else len(columns.values))
    base, more = FORECAST_COST if task.kind is TaskKind.FORECAST else ALARM_COST
    cost = base + more * math.sqrt(values)
    return Planned(
        line=line,
        task=task,
        facts=facts,
        fit=_within(task.limits.budget_s, cost),
        after=SAMPLE_AFTER,
        reason=f"running series; {columns.why}",
    )


def _plan_own(line: Line, task: Task, schema: Schema, payload: str) -> Planned:
    """Plan an anomaly task over images: looks at as many normal images as the recipe takes, at most its budget."""
    rows = round(schema.rows * (1 - task.split.test_share))
    cost = NORMAL_COST[0] + NORMAL_COST[1] * min(rows, NORMAL_IMAGES)
    return Planned(
        line=line,
        task=task,
        facts=facts_of(schema, [payload], TaskKind.ANOMALY, max(1, rows), []),
        fit=_within(task.limits.budget_s, cost),
        after=SAMPLE_AFTER,
        reason=f"image samples in '{payload}'; learned from the normal ones",
    )


def _check_metrics(task: Task, kind: str) -> None:
    """Refuse a metric, a gate or quantiles that the kind of task does not know, before anything is fitted."""
    if task.quantiles and kind and kind not in {TaskKind.REGRESSION, TaskKind.FORECAST}:
        raise TaskError(
            f"'{task.name}': quantiles are for regression and forecasts, and this is a {kind} task.",
            code="MW1248",
            hint="leave quantiles out, or set kind: regression",
        )
    named = [*([task.metric] if task.metric else []), *(bound.metric for bound in task.gate)]
    if named and kind:
        from modelworks.evaluation import find_metric

        for name in named:
            find_metric(name, TaskKind(kind))


def feature_columns(schema: Schema, task: Task) -> list[str]:
    """Return the columns a model of ``task`` may read, before the guard has looked."""
    barred = {*task.targets, *task.exclude, task.weight, task.split.group}
    return [
        column.name for column in schema.columns if column.kind in FEATURE_KINDS and column.name not in barred
    ]


def _answer(task: Task, targets: Mapping[str, Any], rows: int) -> tuple[str, str, list[int], int]:
    if is_stream(task):
        return str(task.kind), "set by the user", [], rows
    if len(task.targets) > 1:
        positives = [int((targets.get(name) or {}).get("counts", [0, 0])[-1:][0]) for name in task.targets]
        return TaskKind.MULTILABEL, "several targets are predicted together", positives, rows
    found = targets.get(task.targets[0]) or {}
    if task.kind is not None:
        counts = [] if task.kind is TaskKind.REGRESSION else list(found.get("counts", ()))
        return task.kind, "set by the user", counts, int(found.get("rows", rows))
    return (
        str(found.get("kind", "")),
        str(found.get("reason", "")),
        list(found.get("counts", ())),
        int(found.get("rows", rows)),
    )


@dataclass
class Plan:
    """All tasks of an order and what they should take together.

    Attributes:
        tasks: In the order of work.
        read_cpu_s: CPU-seconds of reading the tables.
        slots: Jobs side by side.
    """

    tasks: list[Planned] = field(default_factory=list)
    read_cpu_s: float = 0.0
    slots: int = 1

    def forecast(self) -> Forecast:
        """Return the CPU-seconds of the whole order."""
        parts = total_of([planned.fit for planned in self.tasks])
        fixed = START_COST[0] + START_COST[1] * self.slots + self.read_cpu_s
        fixed += sum(planned.after for planned in self.tasks)
        return Forecast(
            cpu_s=parts.cpu_s + fixed, low=parts.low + fixed, high=parts.high + fixed, basis=parts.basis
        )

    def late(self, now: float) -> list[str]:
        """Return the tasks that should end after their due date, in the order of work."""
        found, spent = [], 0.0
        for planned in self.tasks:
            spent += planned.fit.cpu_s + planned.after
            if planned.line.due is not None and now + spent / self.slots > planned.line.due:
                found.append(planned.task.name)
        return found

    def to_json(self, now: float) -> dict[str, Any]:
        whole = self.forecast()
        return {
            "tasks": [planned.to_json() for planned in self.tasks],
            "cpu_s": whole.cpu_s,
            "low": whole.low,
            "high": whole.high,
            "wall_s": whole.cpu_s / self.slots,
            "basis": whole.basis,
            "slots": self.slots,
            "late": self.late(now),
        }
