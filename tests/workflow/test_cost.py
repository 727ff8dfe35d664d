"""What the engine itself costs a step, in acts that can be counted."""

from pathlib import Path

import flow_steps as steps
import pytest
from sqlalchemy import event

from modelworks.compute.inline import InlineExecutor
from modelworks.storage.catalog import Catalog
from modelworks.storage.disk import Disk
from modelworks.storage.store import Store
from modelworks.workflow.scheduler import Scheduler


class CountingDisk(Disk):
    """Counts what waits for the device."""

    syncs = 0

    def fsync(self, path: Path) -> None:
        self.syncs += 1
        super().fsync(path)

    def fsync_dir(self, folder: Path) -> None:
        self.syncs += 1
        super().fsync_dir(folder)


@pytest.fixture
def counted(tmp_path: Path) -> tuple[CountingDisk, Store, Catalog, list[str]]:
    disk = CountingDisk()
    catalog = Catalog(tmp_path / "catalog.db")
    statements: list[str] = []
    event.listen(
        catalog.database.engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, *rest: statements.append(statement),
    )
    (tmp_path / "text.txt").write_text("hello")
    return disk, Store(tmp_path / "store", disk), catalog, statements


def test_a_step_costs_few_statements_and_syncs(
    tmp_path: Path, counted: tuple[CountingDisk, Store, Catalog, list[str]]
) -> None:
    disk, store, catalog, statements = counted
    count = 30
    with Scheduler(InlineExecutor(), store, catalog, run_id="run") as run:
        statements.clear()
        disk.syncs = 0
        for number in range(count):
            run.call(steps.upper, {"text": tmp_path / "text.txt"}, {"tail": str(number)}, label=str(number))
        run.wait()
        per_step = [text for text in statements if "beat" not in text]
        assert len(per_step) / count <= 11, "\n".join(per_step[:30])
        # One output file, the listing of outputs, the folder that names both.
        assert disk.syncs / count <= 3
        statements.clear()
        disk.syncs = 0
        for number in range(count):
            run.call(steps.upper, {"text": tmp_path / "text.txt"}, {"tail": str(number)}, label="again")
        assert statements == [], "a call that this run made already asks the database"
        run.wait()
    with Scheduler(InlineExecutor(), store, catalog, run_id="next") as run:
        statements.clear()
        for number in range(count):
            run.call(steps.upper, {"text": tmp_path / "text.txt"}, {"tail": str(number)}, label="later")
        assert len([text for text in statements if "beat" not in text]) / count <= 2, "\n".join(
            statements[:20]
        )
        assert disk.syncs == 0
        run.wait()
    catalog.close()
