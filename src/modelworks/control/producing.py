"""Running an order from start to end: executor, scheduler, producer, then bill, reports and result."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.control import wiring
from modelworks.control.workspace import Workspace
from modelworks.core.clock import SystemClock, iso
from modelworks.core.errors import NotFound
from modelworks.production.bill import RunBill, bill_of_run, prices_of, shown
from modelworks.production.order import Order
from modelworks.production.results import LineResult, OrderResult
from modelworks.telemetry.events import EventSink, JsonLines, fan_out
from modelworks.telemetry.ledger import Prices

if TYPE_CHECKING:
    from modelworks.production.producer import Producer

KIND = "order"
CANCEL = "cancel"
CANCEL_POLL_S = 2.0


class OrderRun:
    """One start of one order.

    Args:
        workspace: Where everything is kept.
        order: What to make.
        slots: Jobs side by side; the settings' choice when 0.
        memory: Whether what earlier tasks taught is used.
        strict: Whether a mistake in a line is raised instead of becoming a verdict.
        events: Receives what happens.
        stop: Set to end at the next safe point.
    """

    def __init__(
        self,
        workspace: Workspace,
        order: Order,
        *,
        slots: int = 0,
        memory: bool = True,
        strict: bool = False,
        events: EventSink | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.order = order
        self._workspace = workspace
        self._memory = memory
        self._strict = strict
        self._events = events
        self._stop = stop or threading.Event()
        self._asked = 0.0
        chosen = replace(workspace.settings, slots=slots or workspace.settings.slots)
        single = len(order.lines) == 1 and (order.lines[0].joint or len(order.lines[0].targets) == 1)
        star = order.lines[0].targets == ("*",)
        self.slots = wiring.slots_for(chosen, 1 if single and not star else 10**6)

    def plan(self) -> dict[str, Any]:
        """Read the tables, and return the plan with its forecast; nothing is fitted."""
        with self._producer("plan") as producer:
            plan = producer.read().to_json(time.time())
            lost = [
                {
                    "task": line.task,
                    "verdict": line.verdict.kind,
                    "cause": line.verdict.cause,
                    "fix": line.verdict.fix,
                }
                for line in producer.results
            ]
            return {"order": self.order.name, "run": self.order.run, **plan, "unplanned": lost}

    def make(self) -> OrderResult:
        """Bring every line to a verdict.

        Raises:
            Cancelled: Somebody asked to stop; the same command resumes.
            Conflict: Another process works on the same order.
        """
        workspace, run = self._workspace, self.order.run
        with self._producer(KIND) as producer:
            workspace.catalog.memory.forget(CANCEL, run)
            plan = producer.read()
            forecast = producer.decisions.once("forecast", plan.forecast().to_json)
            lines = producer.make()
            result = {"lines": [line.to_json() for line in lines], "forecast": forecast}
            producer.scheduler.finish("done", result=result)
        return order_result(workspace, run, write=True)

    @contextmanager
    def _producer(self, kind: str) -> Iterator[Producer]:
        from modelworks.production.decisions import Decisions
        from modelworks.production.producer import Producer
        from modelworks.production.work import Conditions
        from modelworks.workflow.scheduler import Scheduler

        workspace = self._workspace
        run = self.order.run if kind == KIND else f"{self.order.run}-{kind}"
        ended = run in {row.id for row in workspace.catalog.runs.find(kind=kind, status="done")}
        log = JsonLines(workspace.logs / f"{run}.jsonl")
        events = fan_out(log, self._events) if self._events is not None else log
        try:
            with (
                wiring.executor_for(self.slots) as executor,
                Scheduler(
                    executor,
                    workspace.store,
                    workspace.catalog,
                    run_id=run,
                    kind=kind,
                    spec=self.order.to_json(),
                    events=events,
                ) as scheduler,
            ):
                yield Producer(
                    self.order,
                    scheduler,
                    workspace.catalog,
                    Decisions(workspace.catalog.memory, run),
                    workspace.releases,
                    Conditions(
                        run=run,
                        key=workspace.signing_key,
                        memory=self._memory and workspace.settings.memory,
                        stamp=wiring.stamp_of,
                        stopped=self._stopped,
                        strict=self._strict,
                        again=ended,
                    ),
                    slots=self.slots,
                    clock=SystemClock(),
                    events=events,
                )
        finally:
            log.close()

    def _stopped(self) -> bool:
        if self._stop.is_set():
            return True
        now = time.monotonic()
        if now - self._asked > CANCEL_POLL_S:
            self._asked = now
            return self.order.run in self._workspace.catalog.memory.recall(CANCEL)
        return False


def order_result(workspace: Workspace, run: str, *, write: bool = False) -> OrderResult:
    """Return how an order stands, with the bill of all its attempts.

    Args:
        workspace: Where it is kept.
        run: Its run.
        write: Also write its reports.
    """
    row = workspace.catalog.runs.get(run)
    order = Order.from_json(row.spec)
    prices = prices_of(workspace.settings.prices, order.prices)
    kept = row.result or {"lines": [], "forecast": {}}
    lines = [LineResult.from_json(line) for line in kept["lines"]]
    bill = bill_of_run(workspace.catalog, run, [line.task for line in lines])
    lines = [_with_cost(line, bill, prices) for line in lines]
    left = [line for line in lines if line.verdict.fix.startswith("mw order resume")]
    result = OrderResult(
        name=order.name,
        run=run,
        lines=tuple(lines),
        cost=bill.to_json(prices),
        forecast=_judged_forecast(kept["forecast"], bill),
        curve=bill.curve,
        report=str(workspace.orders / run / "report.html"),
        resume="" if row.status == "done" and not left else f"mw order resume {run}",
    )
    return write_reports(workspace, result, row.created) if write else result


def _with_cost(line: LineResult, bill: RunBill, prices: Prices) -> LineResult:
    found = bill.tasks.get(line.task)
    return replace(line, cost=shown(found, prices)) if found is not None else line


def _judged_forecast(forecast: Mapping[str, Any], bill: RunBill) -> dict[str, Any]:
    """Return the first forecast beside what the run took: ``actual`` and the relative ``error``."""
    if not forecast:
        return {}
    actual = bill.whole.cpu_s
    error = (forecast["cpu_s"] - actual) / actual if actual > 0 else 0.0
    return {**forecast, "actual": actual, "error": error}


def write_reports(workspace: Workspace, result: OrderResult, created: float) -> OrderResult:
    """Write the report of an order and put those of its models beside it."""
    from modelworks.packaging import render_order_report

    folder = workspace.orders / result.run
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for line in result.lines:
        if line.report and Path(line.report).exists():
            page = folder / f"{line.task}.html"
            _write(page, Path(line.report).read_text(encoding="utf-8"))
            line = replace(line, report=str(page))
        lines.append(line)
    result = replace(result, lines=tuple(lines))
    _write(folder / "report.html", render_order_report(_order_page(result, iso(created))))
    return result


def _order_page(result: OrderResult, created: str) -> dict[str, Any]:
    lines = []
    for line in result.lines:
        primary = line.primary
        lines.append(
            {
                "task": line.task,
                "verdict": line.verdict.kind.value,
                "metric": line.metric,
                "value": primary.value if primary else None,
                "low": primary.low if primary else None,
                "high": primary.high if primary else None,
                "target": ", ".join(line.target),
                "data": Path(line.data).name,
                "kind": line.kind,
                "cpu_s": line.cost.get("cpu_s"),
                "money": line.cost.get("money"),
                "wall_s": line.cost.get("wall_s"),
                "size_bytes": round(line.size_mb * 1e6) if line.size_mb is not None else None,
                "latency_ms": line.latency_ms,
                "cause": line.verdict.cause,
                "fix": line.verdict.fix,
                "report": Path(line.report).name if line.report else None,
                "package": line.package,
            }
        )
    whole = result.cost["whole"]
    steps = [
        {"name": name, "cpu_s": bill["cpu_s"], "money": bill["money"], "shared": name == "ingest"}
        for name, bill in result.cost["steps"].items()
    ]
    return {
        "title": f"Order {result.name}",
        "created": created,
        "order": {"name": result.name, "tasks": len(result.lines)},
        "lines": lines,
        "cost": {**whole, "parts": steps},
        "learning": {"points": [{**point, "shared": True} for point in result.curve]},
        "forecast": result.forecast,
        "commands": [["Go on", result.resume]]
        if result.resume
        else [["See the bill", f"mw cost {result.run}"]],
    }


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def find_run(workspace: Workspace, name: str) -> str:
    """Return the run of an order named by its run id, its beginning, or the order's name (the newest).

    Raises:
        NotFound: There is none; names close matches.
    """
    from modelworks.core.errors import close_matches

    runs = workspace.catalog.runs.find(kind=KIND)
    exact = [run for run in runs if run.id == name]
    named = [run for run in runs if run.spec["name"] == name]
    begun = [run for run in runs if run.id.startswith(name)]
    for run in (*exact, *named, *begun):
        return run.id
    known = [run.id for run in runs] + [run.spec["name"] for run in runs]
    raise NotFound(
        f"There is no order '{name}'.{close_matches(name, known)}", code="MW4213", hint="mw order list"
    )
