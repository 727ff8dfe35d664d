"""One method per verb: everything the command line and the Python API can do, and nothing they do by themselves."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from modelworks.control.asking import Answers, Asker, open_named
from modelworks.control.billing import NO_ORDER, bill_of_orders
from modelworks.control.care import Doctor, collect_garbage, export_everything
from modelworks.control.producing import CANCEL, KIND, OrderRun, find_run, order_result
from modelworks.control.secrets import hide_passwords
from modelworks.control.serving import Serving
from modelworks.control.settings import Settings, load_settings
from modelworks.control.workspace import Workspace
from modelworks.production.bill import prices_of
from modelworks.production.order import Order, load_order, parse_duration, parse_order
from modelworks.production.producer import LESSONS
from modelworks.production.results import OrderResult
from modelworks.production.sources import source_stem
from modelworks.storage.ledger import HumanTime
from modelworks.telemetry.events import EventSink
from modelworks.workflow.journal import sweep_dead_runs

if TYPE_CHECKING:
    from modelworks.telemetry.progress import Progress


class Service:
    """An installation of Modelworks.

    Args:
        settings: The settings in force.
        slots: Jobs side by side, over the settings.
        memory: Whether what earlier tasks taught is used.
    """

    def __init__(self, settings: Settings, *, slots: int = 0, memory: bool = True) -> None:
        self.settings = settings
        self.workspace = Workspace(settings)
        self._slots = slots
        self._memory = memory

    @staticmethod
    def open(*, home: Path | None = None, slots: int = 0, memory: bool = True) -> Service:
        """Open the installation that settings and environment name."""
        return Service(load_settings(home=home), slots=slots, memory=memory)

    def close(self) -> None:
        """Free what was opened."""
        self.workspace.close()

    def serving(self, *, url: str = "") -> Serving:
        """Return the verbs of serving: of the server of this installation, or of the one at ``url``."""
        return Serving(self.workspace, url=url)

    # Orders

    def order_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of an order file."""
        from modelworks.production.order_fields import json_schema

        return json_schema()

    def read_order(self, path: Path) -> Order:
        """Read and check an order file.

        Raises:
            TaskError: Something in it is wrong; every problem is named with line and field.
        """
        return hide_passwords(load_order(path))

    def single(
        self,
        source: str,
        targets: Sequence[str],
        *,
        name: str = "",
        settings: Mapping[str, Any] | None = None,
        folder: Path | None = None,
    ) -> Order:
        """Return the order of one task, checked as an order file would be.

        Args:
            source: File or URL.
            targets: One column; several make one multi-label task.
            name: Name of the task; the file's by default.
            settings: Settings in the words of an order file.
            folder: Where relative paths start.
        """
        name = name or source_stem(source)
        task = {"name": name, "data": source, "target": list(targets), **(settings or {})}
        text = json.dumps({"name": name, "tasks": [task]})
        return hide_passwords(parse_order(text, folder=folder or Path.cwd(), source=""))

    def order_from(self, document: Mapping[str, Any], *, folder: Path | None = None) -> Order:
        """Return the order that a dictionary describes, checked as an order file would be."""
        text = json.dumps(document, default=str)
        return hide_passwords(parse_order(text, folder=folder or Path.cwd(), source="the order"))

    def source_of(self, data: Any) -> tuple[str, bool]:
        """Return a source for ``data`` and whether it was one already; a table object is kept by its content.

        Raises:
            DataError: It is neither a path, a URL nor a table.
        """
        if isinstance(data, (str, Path)):
            return str(data), True
        from modelworks.control.tables import keep_table

        return str(keep_table(data, self.workspace.tables)), False

    def demo_order(self) -> Order:
        """Return the bundled order over public tables."""
        from importlib.resources import files

        return load_order(Path(str(files("modelworks") / "examples_data" / "demo.yaml")))

    def plan(self, order: Order, *, strict: bool = False) -> dict[str, Any]:
        """Read the tables of an order and return its plan with the forecast; nothing is fitted.

        Lines that cannot be planned are ``unplanned`` with their cause; with ``strict`` their error is raised.
        """
        return OrderRun(self.workspace, order, slots=self._slots, memory=self._memory, strict=strict).plan()

    def produce(
        self,
        order: Order,
        *,
        events: EventSink | None = None,
        stop: threading.Event | None = None,
        out: Path | None = None,
        strict: bool = False,
    ) -> OrderResult:
        """Bring every line of an order to a verdict; the same order resumes where it was.

        Args:
            order: What to make.
            events: Receives what happens.
            stop: Set to end at the next safe point.
            out: Also write the released packages below this folder.
            strict: Raise a mistake in a line instead of giving it a verdict.

        Raises:
            Cancelled: It was stopped; the same command resumes.
        """
        run = OrderRun(
            self.workspace,
            order,
            slots=self._slots,
            memory=self._memory,
            strict=strict,
            events=events,
            stop=stop,
        )
        result = self.serving().deploy_released(run.make())
        if out is not None:
            self._write_out(result, out)
        return result

    def progress(self, stream: TextIO) -> Progress:
        """Return a sink of events that shows a person how far the work is, how long it takes and what it cost."""
        from modelworks.telemetry.progress import Progress

        return Progress(stream, prices=prices_of(self.settings.prices), heartbeat_s=self.settings.heartbeat_s)

    def order_list(self) -> list[dict[str, Any]]:
        """Return the orders, newest first."""
        sweep_dead_runs(self.workspace.store, self.workspace.catalog)
        found = []
        for run in self.workspace.catalog.runs.find(kind=KIND):
            verdicts: dict[str, int] = {}
            for line in (run.result or {}).get("lines", ()):
                kind = line["verdict"]["kind"]
                verdicts[kind] = verdicts.get(kind, 0) + 1
            found.append(
                {
                    "run": run.id,
                    "name": run.spec["name"],
                    "status": run.status,
                    "lines": len(run.spec["lines"]),
                    "verdicts": verdicts,
                    "created": run.created,
                    "updated": run.updated,
                }
            )
        return found

    def order_show(self, name: str) -> OrderResult:
        """Return how an order stands.

        Raises:
            NotFound: There is no such order.
        """
        return order_result(self.workspace, find_run(self.workspace, name))

    def order_of(self, name: str, *, budget: str = "") -> Order:
        """Return an order that was started before, with another budget if one is given."""
        run = self.workspace.catalog.runs.get(find_run(self.workspace, name))
        order = Order.from_json(run.spec)
        return replace(order, budget_s=parse_duration(budget)) if budget else order

    def order_cancel(self, name: str) -> dict[str, Any]:
        """Ask a running order to stop at its next safe point."""
        run = self.workspace.catalog.runs.get(find_run(self.workspace, name))
        if run.status != "running":
            return {"run": run.id, "message": f"'{run.id}' is not running (it is {run.status})"}
        self.workspace.catalog.memory.remember(CANCEL, run.id, {"asked": True})
        return {
            "run": run.id,
            "message": f"'{run.id}' stops at its next safe point; mw order resume {run.id}",
        }

    # Tables

    def data_show(self, source: Any, reading: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return how a table or samples are read: columns, kinds with reasons, warnings, rows set aside, statistics."""
        from modelworks.control.looking import look_at

        return look_at(source, reading or {})

    def only_target(self, source: Any, reading: Mapping[str, Any] | None = None) -> str:
        """Return the one thing that samples can be asked: ``label``, beside images, series or texts.

        Raises:
            TaskError: There are columns to choose from; the message names them.
        """
        from modelworks.control.looking import only_target

        return only_target(source, reading or {})

    # Packages and models

    def model_list(self) -> list[dict[str, Any]]:
        """Return the released models, each with its newest version."""
        found = []
        for item in self.workspace.catalog.names.newest("model"):
            folder = self.workspace.models / item.name / f"v{item.version}"
            manifest = (
                json.loads((folder / "manifest.json").read_text(encoding="utf-8")) if folder.is_dir() else {}
            )
            metrics = manifest.get("metrics") or [{}]
            found.append(
                {
                    "name": item.name,
                    "version": item.version,
                    "package": item.value["package"],
                    "created": item.created,
                    "metric": metrics[0].get("name"),
                    "value": metrics[0].get("value"),
                    "low": metrics[0].get("low"),
                    "high": metrics[0].get("high"),
                    "path": str(folder),
                }
            )
        return found

    def package_list(self) -> list[dict[str, Any]]:
        """Return every package this installation made, newest first."""
        return [
            {
                "name": row.name,
                "package": row.manifest.get("package", ""),
                "tree": row.digest,
                "run": row.run,
                "verdict": row.verdict,
                "created": row.created,
            }
            for row in self.workspace.catalog.packages.find()
        ]

    def package_verify(self, name: str) -> dict[str, Any]:
        """Check every byte and the signature of a package and replay its golden examples in a clean process."""
        package = open_named(self.workspace, name)
        replayed = package.verify()
        return {
            "name": package.manifest.name,
            "package": package.digest,
            "signed_by": package.signed_by,
            "files": len(package.files),
            "replayed": replayed.rows,
            "protections": replayed.protections,
            "message": (
                f"{package.manifest.name}: {len(package.files)} files as signed by {package.signed_by[:12]}; "
                f"{replayed.rows} golden examples answered as expected in a clean process"
            ),
        }

    def package_show(self, name: str) -> dict[str, Any]:
        """Return what a package says about itself."""
        from modelworks.packaging import show

        return show(open_named(self.workspace, name))

    def package_export(self, name: str, kind: str, out: Path) -> dict[str, Any]:
        """Write a package as ``triton``, ``triton-python``, ``mlflow``, ``docker``, ``predict`` or ``mwpkg``."""
        from modelworks.packaging import export

        path = export(open_named(self.workspace, name), kind, out.expanduser().resolve())
        return {"kind": kind, "path": str(path)}

    def package_diff(self, one: str, other: str) -> dict[str, Any]:
        """Return what differs between two packages."""
        from modelworks.packaging import diff

        return diff(open_named(self.workspace, one), open_named(self.workspace, other))

    def package_trust(self, key: Path) -> dict[str, Any]:
        """Trust the packages a public key signs."""
        from modelworks.packaging import trust_key_file

        return {"key": trust_key_file(self.workspace.keys, key)}

    def load(self, name: str) -> Asker:
        """Open a package and load its graph."""
        return Asker(open_named(self.workspace, name))

    def predict(self, name: str, source: Any) -> Answers:
        """Answer every row of a table."""
        return self.load(name).answer_table(source)

    def explain(self, name: str, row: str, *, out: Path | None = None) -> dict[str, Any]:
        """Say what moved the answer for one row; ``out`` is written as a static page to look at."""
        return self.load(name).explain(row, out=out)

    # Memory and the bill

    def memory_show(self) -> dict[str, Any]:
        """Return the lessons of earlier tasks."""
        lessons = self.workspace.catalog.memory.recall(LESSONS)
        return {"lessons": [{"key": key, **value} for key, value in lessons.items()]}

    def memory_clear(self, *, person_s: float = 0.0) -> dict[str, Any]:
        """Forget the lessons of earlier tasks.

        Args:
            person_s: Seconds a person took to decide it; they are on the bill.
        """
        if person_s > 0:
            act = HumanTime(
                id=uuid.uuid4().hex, run=NO_ORDER, label="", action="clear the memory", seconds=person_s
            )
            self.workspace.catalog.ledger.add_human(act)
        return {"cleared": self.workspace.catalog.memory.forget(LESSONS)}

    def cost(self, order: str = "", *, by: str = "model", curve: bool = False) -> dict[str, Any]:
        """Return the bill of one order or of all: ``by, rows, total, curve``.

        Args:
            order: An order; all of them when empty.
            by: ``model``, ``step`` or ``order``.
            curve: Whether the cost of task n is in it.

        Raises:
            UsageError: ``by`` is something else.
        """
        return bill_of_orders(self.workspace, order, by=by, curve=curve)

    # Care

    def doctor(self, *, strict: bool = False, repair: bool = False) -> dict[str, Any]:
        """Look the installation over."""
        return Doctor(self.workspace, strict=strict, repair=repair).look()

    def gc(self, *, dry_run: bool = False, cache: bool = False) -> dict[str, Any]:
        """Sweep what nothing names."""
        return collect_garbage(self.workspace, dry_run=dry_run, cache=cache)

    def export(self, folder: Path) -> dict[str, Any]:
        """Write everything that was made as plain files."""
        return export_everything(self.workspace, folder)

    def _write_out(self, result: OrderResult, out: Path) -> None:
        import shutil

        for line in result.lines:
            if line.path:
                target = out.expanduser() / line.task
                if target.exists():
                    shutil.rmtree(target)
                shutil.copytree(line.path, target, copy_function=shutil.copyfile)
