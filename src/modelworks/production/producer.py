"""Drives an order: reads the tables, plans, keeps the slots busy, and brings every task to a verdict.

It holds no state of its own that matters: everything is in the store, the catalog and the decisions of the run,
so that a run that was killed at any moment goes on by being started again.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from modelworks.algorithms.plugins import REFERENCES
from modelworks.algorithms.tables import RECIPE_VERSION
from modelworks.core.clock import Clock
from modelworks.core.digest import digest_json
from modelworks.core.errors import Cancelled, InputError, ModelworksError
from modelworks.core.job import Resources
from modelworks.core.schema import Schema
from modelworks.core.verdict import Verdict, VerdictKind
from modelworks.core.version import VERSION
from modelworks.production import steps
from modelworks.production.decisions import Decisions
from modelworks.production.intake import LATER, Intake
from modelworks.production.judge_call import facts_of_model, judge_step, judged
from modelworks.production.look_forecast import LookMemory
from modelworks.production.memory import Advice, Lesson, advise, lesson_of
from modelworks.production.order import Line, Order, in_order_of_work
from modelworks.production.papers import REPORT
from modelworks.production.plan import READ_COST, Plan
from modelworks.production.release import Releases
from modelworks.production.results import LineResult
from modelworks.production.sample_calls import (
    backbones_of,
    embed_call,
    escalate_call,
    fit_params,
    heads_call,
    look_taken,
    wants_more,
)
from modelworks.production.sample_fitting import learns_normal
from modelworks.production.streams import is_stream
from modelworks.production.task_data import fitting_part, task_to_json
from modelworks.production.work import Conditions, Work
from modelworks.storage.catalog import Catalog
from modelworks.telemetry.events import Event, EventSink, LineEnded
from modelworks.telemetry.events import Planned as PlannedEvent
from modelworks.workflow.call import Handle, Input
from modelworks.workflow.scheduler import Scheduler
from modelworks.workflow.step import Step

LESSONS = "lessons"
SHORT = 16
"""Letters of a table's digest that a release remembers: enough to tell tables apart, and no claim on the artifact."""


class Producer:
    """One run of one order.

    Args:
        order: What to make.
        scheduler: An open run of the workflow.
        catalog: Where memory, looks and releases are.
        decisions: What this run decided before.
        releases: Where released packages go.
        conditions: See ``Conditions``.
        slots: Jobs side by side.
        clock: Source of time.
        events: Receives what happens.
    """

    def __init__(
        self,
        order: Order,
        scheduler: Scheduler,
        catalog: Catalog,
        decisions: Decisions,
        releases: Releases,
        conditions: Conditions,
        *,
        slots: int,
        clock: Clock,
        events: EventSink,
    ) -> None:
        self.plan = Plan(slots=slots)
        self.results: list[LineResult] = []
        self._order = order
        self.scheduler = scheduler
        self._catalog = catalog
        self.decisions = decisions
        self._looks = LookMemory(catalog.memory if conditions.memory else None)
        self._intake = Intake(scheduler, decisions, conditions, self._looks)
        self._releases = releases
        self._conditions = conditions
        self._clock = clock
        self._events = events
        self._then: dict[int, Callable[[Handle], None]] = {}
        self._ready: list[tuple[tuple[float, float], int, Work]] = []
        self._number = itertools.count()
        self._fitting = 0
        self._fits_spent = sum(attempt.usage.cpu_s for attempt in catalog.ledger.attempts(run=conditions.run))
        self._lessons = {
            key: Lesson.from_json(value)
            for key, value in (catalog.memory.recall(LESSONS) if conditions.memory else {}).items()
        }

    def read(self) -> Plan:
        """Read every table and plan every task.

        Raises:
            InputError: ``strict`` and a line cannot be planned.
        """
        tables = []
        for line in in_order_of_work(self._order.lines):
            try:
                tables.append((line, self._intake.read(line, line.name)))
            except ModelworksError as error:
                self._give_up(line, error)
        while self.scheduler.pending:
            self._drain_once()
        for line, table in tables:
            self._plan_line(line, table)
        self.plan.tasks.sort(key=lambda planned: planned.rank)
        whole = self.plan.forecast()
        self._emit(
            lambda at: PlannedEvent(
                at=at,
                run=self._conditions.run,
                lines=len(self.plan.tasks) + len(self.results),
                cpu_s=whole.cpu_s,
                wall_s=whole.cpu_s / self.plan.slots,
            )
        )
        return self.plan

    def make(self) -> list[LineResult]:
        """Bring every planned task to a verdict; returns the results in the order they ended.

        Raises:
            Cancelled: Somebody asked to stop; the same command resumes.
        """
        self._feed()
        while self.scheduler.pending:
            self._drain_once()
            self._feed()
        return self.results

    def _drain_once(self) -> None:
        for handle in self.scheduler.wait_any(0.5):
            if not handle.memoised:
                self._fits_spent += handle.usage.cpu_s
            then = self._then.pop(id(handle), None)
            if then is not None:
                then(handle)
        if self._conditions.stopped():
            raise Cancelled(
                "The run was stopped.", code="MW2203", hint="run the same command again to resume"
            )

    def _call(self, step: Step, inputs: Mapping[str, Input], params: dict[str, Any], **more: Any) -> Handle:
        """Call a step; another release of the program makes things anew."""
        return self.scheduler.call(step, inputs, {**params, "code": VERSION}, **more)

    def _plan_line(self, line: Line, table: Handle) -> None:
        try:
            for work in self._intake.plan(line, table, list(self._lessons.values())):
                self.plan.tasks.append(work.planned)
                heapq.heappush(self._ready, (work.planned.rank, next(self._number), work))
            if not table.memoised:
                schema = Schema.from_json(table.result()["schema"])
                self.plan.read_cpu_s += READ_COST[0] + READ_COST[1] * schema.rows * len(schema.columns)
        except ModelworksError as error:
            self._give_up(line, error)

    def _feed(self) -> None:
        """Start fits while slots are free; one more waits, so that no slot waits for us.

        Not earlier, so that each fit is advised by all that ended before it, and the order's budget is kept.
        """
        while self._ready and self._fitting <= self.plan.slots:
            _, _, work = heapq.heappop(self._ready)
            budget = self._order.budget_s
            if budget is not None and self._fits_spent + work.planned.fit.cpu_s > budget:
                self._out_of_budget(work, budget)
                continue
            self._start_fit(work)

    def _start_fit(self, work: Work) -> None:
        start = self.decisions.once(
            f"start:{work.table.tree[:SHORT]}:{work.task.name}", lambda: self._start(work)
        )
        work.champion, work.created = start["champion"], start["created"]
        self._fitting += 1
        if work.peers:
            self._embed(work)
            return
        if is_stream(work.task):
            shared = {"task": fitting_part(work.task)}
            self._fit(work, steps.fit_stream, {"table": work.table.all_outputs()}, shared, 1)
            return
        if learns_normal(work.task):
            self._fit(work, steps.fit_sample, {"table": work.table.all_outputs()}, fit_params(work), 1)
            return
        params = {
            "task": fitting_part(work.task),
            "order": start["advice"]["order"],
            "recipe": RECIPE_VERSION,
            "sealed_from": work.table.result()["sealed_from"],
        }
        self._fit(work, steps.fit, {"table": work.table.all_outputs()}, params, 1)

    def _fit(
        self, work: Work, step: Step, inputs: Mapping[str, Input], params: dict[str, Any], tasks: int
    ) -> None:
        limits = work.task.limits
        cpu_s = 3 * limits.budget_s * tasks + 60
        work.fit = self._call(
            step,
            inputs,
            params,
            label=work.task.name,
            priority=work.priority,
            resources=Resources(memory_mb=limits.memory_mb, cpu_s=cpu_s, wall_s=10 / 3 * cpu_s + 100),
        )
        self._then[id(work.fit)] = lambda handle: self._fitted(work, handle)

    def _embed(self, work: Work) -> None:
        """Ask for the embeddings of a task's table; the tasks of its line ask for the same ones."""
        names = tuple(dict.fromkeys((*backbones_of(work.task), REFERENCES[work.task.modality])))
        for name in names:
            handle = self._call(
                steps.embed,
                *embed_call(work.planned.line, work.table, work.task, name),
                label=work.task.name,
                priority=work.priority,
                resources=Resources(memory_mb=work.task.limits.memory_mb),
            )
            work.embeds[name] = handle
            self._then[id(handle)] = partial(self._embedded, work, len(names), name)

    def _embedded(self, work: Work, asked: int, name: str, ended: Handle) -> None:
        """Fit the heads once every backbone has looked; one that could not be made is left out."""
        if ended.ok and not ended.memoised:
            self._looks.learn(ended.key, look_taken(work, name, ended.usage.cpu_s))
        if len(work.embeds) < asked or work.fit is not None:
            return
        if not all(handle.ended for handle in work.embeds.values()):
            return
        reference = REFERENCES[work.task.modality]
        failed = [name for name, handle in work.embeds.items() if not handle.ok]
        if reference in failed or (failed and set(failed) >= set(backbones_of(work.task))):
            self._fitting -= 1
            self._end(work, self._verdict_of(work.embeds[failed[0]]))
            return
        inputs, params = heads_call(work, reference)
        self._fit(work, steps.heads, inputs, params, len(work.peers))

    def _start(self, work: Work) -> dict[str, Any]:
        """Return what depends on the moment: the advice of memory, and the champion to beat."""
        advice = (
            advise(work.planned.facts, list(self._lessons.values())) if self._conditions.memory else Advice()
        )
        champion = self._releases.champion(work.task.name, self._conditions.run, work.table.tree[:SHORT])
        return {"advice": advice.to_json(), "champion": champion, "created": self._clock.wall()}

    def _escalate(self, work: Work, fit: Handle) -> None:
        """Ask whether a task needs more than its head; it holds its slot until that has ended."""
        inputs, params = escalate_call(work, fit)
        limits = work.task.limits
        cpu_s = 3 * limits.budget_s + 60
        work.escalated = self._call(
            steps.escalate,
            inputs,
            params,
            label=work.task.name,
            priority=work.priority,
            resources=Resources(memory_mb=limits.memory_mb, cpu_s=cpu_s, wall_s=10 / 3 * cpu_s + 100),
        )
        self._then[id(work.escalated)] = lambda _: self._fitted(work, fit)

    def _fitted(self, work: Work, handle: Handle) -> None:
        if work.escalated is None and handle.ok and wants_more(work, handle):
            self._escalate(work, handle)
            return
        self._fitting -= 1
        failed = next((one for one in (handle, work.escalated) if one is not None and not one.ok), None)
        if failed is not None:
            self._end(work, self._verdict_of(failed))
            return
        task = work.task
        work.fitted = handle.value["tasks"][work.place] if work.peers else handle.value
        if "error" in work.fitted:
            self._end(work, self._verdict_of_error(ModelworksError.from_json(work.fitted["error"])))
            return
        if not work.peers and not learns_normal(task) and not is_stream(task):
            self._learn(work, handle)
        model, inputs = judged(work, handle, self._conditions.key)
        data = task_to_json(task)
        test = digest_json([list(task.targets), work.fitted["test"]])
        work.look = self._catalog.looks.look(
            test, digest_json([model, data]), label=task.name, purpose="evaluate"
        )
        work.judged = self._call(
            judge_step(task),
            inputs,
            {"task": data, "facts": facts_of_model(work, handle)},
            label=task.name,
            priority=work.priority + LATER,
            resources=Resources(memory_mb=task.limits.memory_mb),
        )
        self._then[id(work.judged)] = lambda ended: self._judged(work, ended)

    def _learn(self, work: Work, handle: Handle) -> None:
        value = handle.value
        lesson = lesson_of(work.planned.facts, value, value["parts"]["fit"], work.task.name)
        key = handle.key
        if key not in self._lessons:
            self._lessons[key] = lesson
            self._catalog.memory.remember(LESSONS, key, lesson.to_json())

    def _judged(self, work: Work, handle: Handle) -> None:
        if not handle.ok:
            self._end(work, self._verdict_of(handle))
            return
        verdict = Verdict.from_json(handle.value["verdict"])
        if verdict.kind is not VerdictKind.RELEASED:
            self._end(work, verdict, report=str(handle.path(REPORT)))
            return
        made = {
            "run": self._conditions.run,
            "table": work.table.tree[:SHORT],
            "package": handle.value["package"],
        }
        found = self._releases.release(work.task.name, made, handle.outputs)
        self._end(
            work,
            verdict,
            package=found.package,
            path=str(found.folder),
            report=str(found.folder / REPORT),
        )

    def _end(self, work: Work, verdict: Verdict, **more: Any) -> None:
        self._finish(work.result(verdict, **more))

    def _give_up(self, line: Line, error: ModelworksError) -> None:
        if self._conditions.strict:
            raise error
        self._finish(
            LineResult(task=line.name, target=line.targets, data=line.data, verdict=_verdict_of(error))
        )

    def _out_of_budget(self, work: Work, budget: float) -> None:
        verdict = Verdict(
            kind=VerdictKind.FAILED,
            cause=(
                f"The order's budget of {budget:g} CPU-seconds does not reach for this task: "
                f"{self._fits_spent:.1f} are spent and it needs about {work.planned.fit.cpu_s:.1f}."
            ),
            fix=f"mw order resume {self._conditions.run} --budget {round(2 * budget)}s",
        )
        self._end(work, verdict)

    def _verdict_of(self, handle: Handle) -> Verdict:
        error = handle.error
        if error is None:
            raise AssertionError("a call that ended badly has an error")
        return self._verdict_of_error(error)

    def _verdict_of_error(self, error: ModelworksError) -> Verdict:
        if self._conditions.strict and isinstance(error, InputError):
            raise error
        return _verdict_of(error)

    def _finish(self, result: LineResult) -> None:
        self.results.append(result)
        self._emit(
            lambda at: LineEnded(
                at=at,
                run=self._conditions.run,
                label=result.task,
                verdict=result.verdict.kind.value,
                cause="" if result.released else result.verdict.cause,
            )
        )

    def _emit(self, make: Callable[[float], Event]) -> None:
        self._events(make(self._clock.wall()))


def _verdict_of(error: ModelworksError) -> Verdict:
    """Return the verdict of a line that ended in an error: data that cannot be learned from is refused."""
    from modelworks.evaluation import failed_verdict

    verdict = failed_verdict(error)
    return replace(verdict, kind=VerdictKind.REFUSED) if isinstance(error, InputError) else verdict
