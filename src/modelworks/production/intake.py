"""How the lines of an order become work: tables are asked for, tasks are written out and planned."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from modelworks.algorithms.plugins import REFERENCES
from modelworks.core.schema import Schema
from modelworks.core.task import Task
from modelworks.core.version import VERSION
from modelworks.production import steps
from modelworks.production.decisions import Decisions
from modelworks.production.encoders import without_paths
from modelworks.production.look_forecast import LookMemory, Looks
from modelworks.production.memory import Lesson
from modelworks.production.order import Line
from modelworks.production.order_tasks import expand
from modelworks.production.plan import plan_task
from modelworks.production.sample_calls import as_read, backbones_of, embed_call, of_samples
from modelworks.production.work import Conditions, Work
from modelworks.workflow.call import Handle, Input
from modelworks.workflow.scheduler import Scheduler

LATER = 1e6
"""Added to the priority of what reads a table or follows a fit, so that tasks end before others begin."""


class Intake:
    """Reads the tables of lines and plans their tasks.

    Args:
        scheduler: An open run of the workflow.
        decisions: What this run decided before; the state of a remote source is one of them.
        conditions: See ``Conditions``.
        looks: What embedding earlier tables took.
    """

    def __init__(
        self, scheduler: Scheduler, decisions: Decisions, conditions: Conditions, looks: LookMemory
    ) -> None:
        self._scheduler = scheduler
        self._decisions = decisions
        self._conditions = conditions
        self._looks = looks
        self._stamps: dict[str, str] = {}

    def read(self, line: Line, label: str) -> Handle:
        """Ask for the table of a line; labels that ask for the same table share its cost.

        Raises:
            ModelworksError: A remote source cannot be reached.
        """
        inputs: dict[str, Input] = {}
        params: dict[str, Any] = {"reading": line.reading, "code": VERSION}
        for name, source in (("source", line.data), ("test", _test_data(line))):
            if source is None:
                continue
            if "://" in source:
                params |= {
                    "url" if name == "source" else "test_url": source,
                    f"{name}_stamp": self._stamp(source),
                }
            else:
                inputs[name] = Path(source)
        if "files" in line.settings:
            inputs["files"] = Path(line.settings["files"])
        return self._scheduler.call(steps.ingest, inputs, params, label=label, priority=line.priority + LATER)

    def plan(self, line: Line, table: Handle, lessons: list[Lesson]) -> Iterator[Work]:
        """Write out and plan the tasks of a line whose table was read, one after the other.

        Raises:
            ModelworksError: The table was not read, or a task does not fit it.
        """
        found = table.result()
        schema = Schema.from_json(found["schema"])
        series = found["report"].get("series", {})
        tasks = [as_read(without_paths(task), series) for task in expand(line, schema)]
        peers = of_samples(tasks)
        for task in tasks:
            own = table if task.name == line.name else self.read(line, task.name)
            looks = Looks(
                lessons=list(self._looks.lessons.values()),
                kept=frozenset(self._kept(line, own, task)) if task in peers else frozenset(),
                bytes=found["report"]["bytes"],
            )
            planned = plan_task(
                line, task, schema, found["targets"], lessons, len(tasks), series.get("values", 0), looks
            )
            yield Work(planned, own, peers if planned.task in peers else ())

    def _kept(self, line: Line, table: Handle, task: Task) -> Iterator[str]:
        """Name the backbones whose embeddings of a table are at hand."""
        if not table.ok:
            return
        for name in (*backbones_of(task), REFERENCES[task.modality]):
            inputs, params = embed_call(line, table, task, name)
            if self._scheduler.known(steps.embed, inputs, {**params, "code": VERSION}):
                yield name

    def _stamp(self, source: str) -> str:
        if source not in self._stamps:
            decide = partial(self._conditions.stamp, source)
            self._stamps[source] = str(
                self._decisions.once(f"stamp:{source}", decide, again=self._conditions.again)
            )
        return self._stamps[source]


def _test_data(line: Line) -> str | None:
    found = line.settings.get("split", {}).get("test_data")
    return str(found) if found else None
