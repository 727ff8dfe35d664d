"""A small production line, ingest to release, and the wrappers that kill it at numbered boundaries."""

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import chain_steps
from sqlalchemy import Connection

from modelworks.compute.inline import InlineExecutor
from modelworks.core.errors import Conflict
from modelworks.core.job import Executor
from modelworks.storage.catalog import Catalog
from modelworks.storage.database import Database
from modelworks.storage.disk import Disk
from modelworks.storage.pointers import Pointers
from modelworks.storage.registry import PackageRow
from modelworks.storage.store import Store
from modelworks.telemetry.events import Event
from modelworks.workflow.journal import sweep_dead_runs
from modelworks.workflow.scheduler import Scheduler

RUN = "order"
MEMBERS = 2
STEPS = ("ingest", "split", *(f"fit-{member}" for member in range(MEMBERS)), "package")


class Boundary:
    """Counts boundaries and kills this process at one of them."""

    def __init__(self, deadly: int = 0) -> None:
        self.count = 0
        self.deadly = deadly

    def __call__(self, *_: Any) -> None:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlyDisk(Disk):
    """A disk with a boundary before and after each operation."""

    def __init__(self, boundary: Callable[[], None]) -> None:
        self._boundary = boundary

    def write(self, path: Path, blocks: Iterable[bytes | memoryview]) -> int:
        self._boundary()
        written = super().write(path, blocks)
        self._boundary()
        return written


def _with_boundaries(name: str) -> Callable[..., None]:
    plain = getattr(Disk, name)

    def act(self: DeadlyDisk, *paths: Path) -> None:
        self._boundary()
        plain(self, *paths)
        self._boundary()

    return act


for _name in ("fsync", "fsync_dir", "rename", "unlink", "make_dir"):
    setattr(DeadlyDisk, _name, _with_boundaries(_name))


class DeadlyDatabase(Database):
    """A database with a boundary before and after each commit."""

    def __init__(self, where: Path, boundary: Callable[[], None]) -> None:
        super().__init__(where)
        self._boundary = boundary

    def commit(self, connection: Connection) -> None:
        self._boundary()
        super().commit(connection)
        self._boundary()


def produce(
    folder: Path,
    boundary: Callable[..., None] = lambda *_: None,
    *,
    executor: Executor | None = None,
    filler: int = 0,
    lease_s: float = 15.0,
) -> str:
    """Run the line to its end, wherever it was left; returns the digest of the released package."""
    store = Store(folder / "store", DeadlyDisk(boundary))
    with Catalog(DeadlyDatabase(folder / "catalog.db", boundary)) as catalog:
        sweep_dead_runs(store, catalog)
        events: Callable[[Event], None] = boundary
        runner = executor or InlineExecutor()
        params: dict[str, Any] = {"notes": str(folder / "notes.txt"), "filler": filler}
        with Scheduler(runner, store, catalog, run_id=RUN, events=events, lease_s=lease_s) as run:
            table = run.call(chain_steps.ingest, {"source": folder / "source.csv"}, params, label="task")
            parts = run.call(chain_steps.split, {"table": table.output("out.txt")}, params, label="task")
            fits = [
                run.call(
                    chain_steps.fit,
                    {"parts": parts.output("out.txt")},
                    params | {"member": member},
                    label="task",
                )
                for member in range(MEMBERS)
            ]
            made = run.call(
                chain_steps.package,
                {f"m{index}": fitted.output("out.txt") for index, fitted in enumerate(fits)},
                params,
                label="task",
            )
            run.wait()
            made.result()
            release(store, catalog, made.tree)
        return made.tree


def release(store: Store, catalog: Catalog, tree: str) -> None:
    """Register and publish the package; safe to repeat."""
    catalog.packages.add(
        PackageRow(
            digest=tree, name="task", run=RUN, label="task", verdict="released", manifest={"tree": tree}
        )
    )
    history = catalog.names.history("model", "task")
    if tree not in [item.value["tree"] for item in history]:
        try:
            catalog.names.set("model", "task", {"tree": tree}, expected=len(history), writer=f"{RUN}:{tree}")
        except Conflict:
            if tree not in [item.value["tree"] for item in catalog.names.history("model", "task")]:
                raise
    Pointers(store).publish("task", {"tree": tree})


def prepare(folder: Path) -> None:
    """Make the input of the line."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.csv").write_text("a,b\n1,2\n")
