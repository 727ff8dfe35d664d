"""The portfolio: which members exist, with which settings, and which of them a table of a given size tries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.tables.boosted import BoostedTrees
from modelworks.algorithms.tables.encoder import Feature
from modelworks.algorithms.tables.forest import Forest
from modelworks.algorithms.tables.kernel import KernelMachine
from modelworks.algorithms.tables.linear import LinearModel
from modelworks.algorithms.tables.logged import LoggedMember, is_skewed
from modelworks.algorithms.tables.network import NeuralNetwork
from modelworks.algorithms.tables.statistics import StatisticTrees, columns_with_many_levels
from modelworks.algorithms.tables.views import BASIS, BRANCHES, SCALED, TABLE, ViewedRows
from modelworks.core.errors import UsageError, close_matches
from modelworks.core.task import TaskKind
from modelworks.training.network import Schedule
from modelworks.training.problem import Problem

FORMAT = 1
LOG, STATISTICS = "log", "statistics"
_FITTING = ("rounds", "patience")


@dataclass(frozen=True, kw_only=True)
class MemberSpec:
    """One member as data.

    Attributes:
        name: Name on the leaderboard and in the memory of earlier tasks.
        family: ``linear``, ``boosted``, ``statistics`` (boosted, with target statistics of categories with many
            levels; tried only if there are such), ``kernel``, ``forest`` or ``network``.
        settings: Settings of the family.
        view: View it learns from, if not the family's own.
        target: ``log``: learn the logarithm, of positive skewed targets only.
        small: ``{"up_to_rows": n, "settings": {...}}`` changes for small tables.
        min_rows, max_rows, max_classes: Where it is not tried.
    """

    name: str
    family: str
    settings: Mapping[str, Any]
    view: str = ""
    target: str = ""
    small: Mapping[str, Any] = field(default_factory=dict)
    min_rows: int = 0
    max_rows: int = 10**9
    max_classes: int = 10**6

    def suits(self, problem: Problem, features: Sequence[Feature]) -> bool:
        """Say whether the member is meant for a problem of this size with these columns."""
        if self.family == STATISTICS and not columns_with_many_levels(features):
            return False
        if self.target == LOG and not is_skewed(problem):
            return False
        if self.family == "forest" and problem.kind is TaskKind.MULTILABEL:
            return False
        if self.family in {"kernel", "network"} and all(feature.kind == "term" for feature in features):
            return False
        return self.min_rows <= problem.rows <= self.max_rows and problem.classes <= self.max_classes

    def settings_for(self, rows: int) -> dict[str, Any]:
        """Return the settings for a table of ``rows`` rows."""
        settings = dict(self.settings)
        if self.small and rows <= self.small["up_to_rows"]:
            settings |= self.small["settings"]
        return settings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How tables up to a size are raced.

    Attributes:
        up_to_rows: Largest table, or ``None``.
        min_classes: Fewest classes (or labels) it is meant for.
        folds: Folds used of those the split made.
        spend_s: CPU-seconds after which no further member is begun.
        members: Names in the order they are tried.
    """

    up_to_rows: int | None
    min_classes: int = 0
    folds: int
    spend_s: float
    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """Members and plans."""

    members: tuple[MemberSpec, ...]
    plans: tuple[Plan, ...]

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Portfolio:
        """Read a portfolio.

        Raises:
            UsageError: The format is unknown, or a plan names a member that does not exist.
        """
        if data.get("format") != FORMAT:
            raise UsageError(f"Portfolio format {data.get('format')!r} is not {FORMAT}.", code="MW1338")
        members = tuple(MemberSpec(**item) for item in data["members"])
        plans = tuple(Plan(**{**item, "members": tuple(item["members"])}) for item in data["plans"])
        portfolio = Portfolio(members=members, plans=plans)
        for plan in plans:
            for name in plan.members:
                portfolio.member(name)
        return portfolio

    def member(self, name: str) -> MemberSpec:
        """Return the member called ``name``.

        Raises:
            UsageError: There is none.
        """
        for spec in self.members:
            if spec.name == name:
                return spec
        known = [spec.name for spec in self.members]
        raise UsageError(
            f"The portfolio has no member '{name}'.{close_matches(name, known)}",
            code="MW1339",
            hint="members: " + ", ".join(known),
        )

    def plan(self, problem: Problem) -> Plan:
        """Return the first plan that is meant for the problem's rows and classes."""
        for plan in self.plans:
            large = plan.up_to_rows is not None and problem.rows > plan.up_to_rows
            if not large and problem.classes >= plan.min_classes:
                return plan
        return self.plans[-1]

    def entrants(
        self, problem: Problem, features: Sequence[Feature], order: Sequence[str] = ()
    ) -> list[MemberSpec]:
        """Return the members to try: those of the plan that ``order`` names, else all of it; of them those that suit.

        Other names in ``order`` are left out: memory may be older than the portfolio, and what was learned on small
        tables must not bring members to large ones that their plan spares for their cost.
        """
        planned = [self.member(name) for name in self.plan(problem).members]
        by_name = {spec.name: spec for spec in planned}
        advised = [by_name[name] for name in dict.fromkeys(order) if name in by_name]
        fitting = [spec for spec in advised if spec.suits(problem, features)]
        return fitting or [spec for spec in planned if spec.suits(problem, features)]


@cache
def default_portfolio() -> Portfolio:
    """Return the portfolio that ships with the package."""
    text = resources.files("modelworks.algorithms.tables").joinpath("portfolio.json").read_text("utf-8")
    return Portfolio.from_json(json.loads(text))


def _boosted(spec: MemberSpec, problem: Problem, rows: ViewedRows, seed: int) -> Any:
    view = spec.view or TABLE
    return _boosted_on(spec, problem, seed, rows[view], view)


def _boosted_on(
    spec: MemberSpec, problem: Problem, seed: int, features: npt.NDArray[np.float32], view: str = TABLE
) -> BoostedTrees:
    settings = spec.settings_for(problem.rows)
    fitting = {name: settings.pop(name) for name in _FITTING if name in settings}
    return BoostedTrees(
        name=spec.name, problem=problem, features=features, seed=seed, settings=settings, view=view, **fitting
    )


def _statistics(spec: MemberSpec, problem: Problem, rows: ViewedRows, seed: int) -> Any:
    encoded = rows.views.encoder.features
    columns = columns_with_many_levels(encoded)
    boosted = partial(_boosted_on, spec, problem, seed)
    return StatisticTrees(
        name=spec.name,
        problem=problem,
        features=rows[TABLE],
        columns=columns,
        sizes=[encoded[index].levels for index in columns],
        make=boosted,
    )


def _linear(spec: MemberSpec, problem: Problem, rows: ViewedRows, seed: int) -> Any:
    settings = spec.settings_for(problem.rows)
    return LinearModel(name=spec.name, problem=problem, features=rows[BASIS], **settings)


def _kernel(spec: MemberSpec, problem: Problem, rows: ViewedRows, seed: int) -> Any:
    settings = spec.settings_for(problem.rows)
    return KernelMachine(name=spec.name, problem=problem, features=rows[SCALED], seed=seed, **settings)


def _forest(spec: MemberSpec, problem: Problem, rows: ViewedRows, seed: int) -> Any:
    view = spec.view or BRANCHES
    settings = spec.settings_for(problem.rows)
    return Forest(name=spec.name, problem=problem, features=rows[view], seed=seed, view=view, **settings)


def _network(spec: MemberSpec, problem: Problem, rows: ViewedRows, seed: int) -> Any:
    schedule = Schedule(**spec.settings_for(problem.rows))
    return NeuralNetwork(name=spec.name, problem=problem, features=rows[SCALED], seed=seed, schedule=schedule)


_FAMILIES: dict[str, Callable[[MemberSpec, Problem, ViewedRows, int], Any]] = {
    "boosted": _boosted,
    STATISTICS: _statistics,
    "linear": _linear,
    "kernel": _kernel,
    "forest": _forest,
    "network": _network,
}


def make_member(spec: MemberSpec, problem: Problem, rows: ViewedRows, seed: int) -> Any:
    """Bind a member to a problem and its features.

    Raises:
        UsageError: The family is unknown.
    """
    if spec.family not in _FAMILIES:
        raise UsageError(
            f"Member '{spec.name}': there is no family '{spec.family}'.{close_matches(spec.family, _FAMILIES)}",
            code="MW1341",
            hint="families: " + ", ".join(_FAMILIES),
        )
    family = _FAMILIES[spec.family]
    if spec.target == LOG:
        return LoggedMember(
            name=spec.name, problem=problem, make=lambda logged: family(spec, logged, rows, seed)
        )
    return family(spec, problem, rows, seed)
