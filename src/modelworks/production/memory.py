"""What earlier tasks taught: facts of a table, how each member did there, a vote of the nearest.

Instance-based meta-learning (Brazdil et al., Metalearning, 2nd ed. 2022, chapter 5): a new task is
placed among the earlier ones by a few facts of its table, and its nearest neighbours vote on which
members are worth their cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelworks.core.schema import ColumnKind, Schema
from modelworks.core.task import TaskKind

NEIGHBOURS = 7
LEAST_VOTES = 3
LEAST_SAVING = 0.05
"""A member that takes less than this share of a fit is never skipped: nothing is saved, and a table may need it."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a task before anything is fitted.

    Attributes:
        kind: Task kind.
        rows: Training rows.
        numbers, categories, texts, moments: Feature columns by kind.
        classes: Classes or labels; 1 for regression.
        rarest: Share of the rarest class, 1 for regression.
        missing: Share of missing cells in the feature columns.
        levels: Mean number of distinct values of the categories.
    """

    kind: str
    rows: int
    numbers: int = 0
    categories: int = 0
    texts: int = 0
    moments: int = 0
    classes: int = 1
    rarest: float = 1.0
    missing: float = 0.0
    levels: float = 0.0

    @property
    def features(self) -> int:
        return self.numbers + self.categories + self.texts + self.moments

    @property
    def outputs(self) -> int:
        """Scores a row needs: 1 for binary and regression, else one per class or label."""
        return 1 if self.kind in {TaskKind.BINARY, TaskKind.REGRESSION} else max(1, self.classes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def facts_of(
    schema: Schema, features: Sequence[str], kind: str, rows: int, class_counts: Sequence[int]
) -> Facts:
    """Return the facts of a task.

    Args:
        schema: Schema of the whole table.
        features: Columns the model may read.
        kind: Task kind.
        rows: Training rows.
        class_counts: Rows of each class or label; empty for regression.
    """
    columns = [schema[name] for name in features]
    count = {kind: sum(column.kind == kind for column in columns) for kind in ColumnKind}
    levels = [
        column.distinct
        for column in columns
        if column.kind in {ColumnKind.CATEGORY, ColumnKind.INTEGER_CATEGORY, ColumnKind.ORDERED}
    ]
    total = sum(class_counts)
    cells = max(1, schema.rows * len(columns))
    return Facts(
        kind=str(kind),
        rows=rows,
        numbers=count[ColumnKind.NUMBER] + count[ColumnKind.BOOLEAN],
        categories=len(levels),
        texts=count[ColumnKind.TEXT],
        moments=count[ColumnKind.DATETIME],
        classes=max(1, len(class_counts)),
        rarest=min(class_counts) / total if class_counts and total else 1.0,
        missing=sum(column.missing for column in columns) / cells,
        levels=sum(levels) / len(levels) if levels else 0.0,
    )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one portfolio member did in one task.

    Attributes:
        name: Member name.
        ratio: Its out-of-fold loss over the best member's, at least 1.
        cpu_s: CPU-seconds it took.
        weight: Its weight in the shipped ensemble.
    """

    name: str
    ratio: float
    cpu_s: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What one finished task left behind.

    Attributes:
        facts: Facts of its table.
        members: Outcome of every member that was tried.
        cpu_s: CPU-seconds of the whole fit.
        task: Name of the task, for people.
    """

    facts: Facts
    members: tuple[Outcome, ...]
    cpu_s: float
    task: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Lesson:
        return Lesson(
            facts=Facts(**data["facts"]),
            members=tuple(Outcome(**item) for item in data["members"]),
            cpu_s=float(data["cpu_s"]),
            task=str(data.get("task", "")),
        )


def lesson_of(facts: Facts, diagnostics: Mapping[str, Any], cpu_s: float, task: str) -> Lesson:
    """Return the lesson of a fit from its diagnostics (members with ``oof_loss, cpu_s, weight``)."""
    tried = [
        member
        for member in diagnostics.get("members", ())
        if member.get("oof_loss") is not None and math.isfinite(member["oof_loss"])
    ]
    best = min((member["oof_loss"] for member in tried), default=0.0)
    return Lesson(
        facts=facts,
        members=tuple(
            Outcome(
                name=str(member["name"]),
                ratio=min(100.0, member["oof_loss"] / best) if best > 0 else 1.0,
                cpu_s=float(member.get("cpu_s") or 0.0),
                weight=float(member.get("weight") or 0.0),
            )
            for member in tried
        ),
        cpu_s=cpu_s,
        task=task,
    )


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What memory says about a new task.

    Attributes:
        order: Members worth trying, the most useful first; empty when too little is known.
        skipped: Members that never earned their cost on the neighbours.
        neighbours: Names of the tasks that voted.
    """

    order: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) for key, value in asdict(self).items()}


@dataclass
class _Votes:
    use: float = 0.0
    share: float = 0.0
    count: int = 0
    best: bool = False
    cost: float = 0.0

    @property
    def useless(self) -> bool:
        """Whether it was tried often enough, never helped, and costs something worth saving."""
        return self.count >= LEAST_VOTES and not self.best and self.cost >= LEAST_SAVING * self.count


def distance(one: Facts, other: Facts) -> float:
    """Return how different two tasks are: 0 for equal facts, infinite for different kinds."""
    if one.kind != other.kind:
        return math.inf
    spans = (
        (math.log10(max(1, one.rows)), math.log10(max(1, other.rows)), 1.0),
        (math.log10(1 + one.features), math.log10(1 + other.features), 0.7),
        (_share(one.categories, one), _share(other.categories, other), 0.4),
        (math.log10(1 + one.texts), math.log10(1 + other.texts), 0.3),
        (math.log2(one.classes), math.log2(other.classes), 1.5),
        (math.log10(one.rarest + 1e-3), math.log10(other.rarest + 1e-3), 0.7),
        (math.sqrt(one.missing), math.sqrt(other.missing), 0.4),
        (math.log10(1 + one.levels), math.log10(1 + other.levels), 1.0),
    )
    return math.sqrt(sum(((left - right) / scale) ** 2 for left, right, scale in spans))


def _share(count: int, facts: Facts) -> float:
    return count / max(1, facts.features)


def nearest(facts: Facts, lessons: Sequence[Lesson], count: int = NEIGHBOURS) -> list[tuple[float, Lesson]]:
    """Return the ``count`` nearest lessons of the same kind with their distances, nearest first."""
    placed = [(distance(facts, lesson.facts), lesson) for lesson in lessons]
    return sorted(
        (pair for pair in placed if math.isfinite(pair[0])), key=lambda pair: (pair[0], pair[1].task)
    )[:count]


def advise(facts: Facts, lessons: Sequence[Lesson], count: int = NEIGHBOURS) -> Advice:
    """Let the nearest lessons vote on the members to try.

    A member's vote is its ensemble weight, by nearness. It is skipped only if at least three neighbours
    tried it, it never had a weight there, it was never within 2 % of the best, and it took 5 % of the fits or more.
    """
    near = nearest(facts, lessons, count)
    if len(near) < LEAST_VOTES:
        return Advice()
    votes: dict[str, _Votes] = {}
    for gap, lesson in near:
        nearness = 1.0 / (1.0 + gap)
        for member in lesson.members:
            vote = votes.setdefault(member.name, _Votes())
            vote.use += nearness * (member.weight + 0.1 / member.ratio)
            vote.share += nearness
            vote.count += 1
            vote.best = vote.best or member.weight > 0 or member.ratio <= 1.02
            vote.cost += member.cpu_s / lesson.cpu_s if lesson.cpu_s > 0 else 1.0
    ranked = sorted(votes, key=lambda name: (-votes[name].use / votes[name].share, name))
    skipped = [name for name in ranked if votes[name].useless]
    return Advice(
        order=tuple(name for name in ranked if name not in skipped),
        skipped=tuple(skipped),
        neighbours=tuple(lesson.task for _, lesson in near),
    )
