"""F9: the commit was done and its reply was lost; the retry finds its own work and nothing is there twice."""

import random
from pathlib import Path

import pytest
from chain import MEMBERS, RUN, prepare, release
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from modelworks.core.errors import Conflict, StorageError
from modelworks.core.job import Attempt
from modelworks.storage.catalog import Catalog
from modelworks.storage.database import Database
from modelworks.storage.registry import PackageRow
from modelworks.storage.store import Store
from modelworks.telemetry.ledger import total

SEED = 20261123


class LossyDatabase(Database):
    """A database that loses the reply of some commits it has done.

    The retry of a transaction whose reply was lost is answered, unless it is ``deaf``.
    """

    def __init__(self, where: Path, share: float) -> None:
        super().__init__(where)
        self.share = share
        self.deaf = False
        self.lost = 0
        self._chance = random.Random(SEED)
        self._lost_last = False

    def commit(self, connection: Connection) -> None:
        super().commit(connection)
        unlucky = self._chance.random() < self.share and not self._lost_last
        self._lost_last = unlucky
        if unlucky or self.deaf:
            self.lost += 1
            raise OperationalError(
                "COMMIT",
                {},
                Exception("server closed the connection unexpectedly"),
                connection_invalidated=True,
            )


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_the_line_releases_once(tmp_path: Path, share: float) -> None:
    import chain

    folder = tmp_path / "line"
    prepare(folder)
    database = LossyDatabase(folder / "catalog.db", share)
    store = Store(folder / "store")
    with Catalog(database) as catalog:
        tree = _produce(store, catalog, folder)
        release(store, catalog, tree)
        release(store, catalog, tree)
        attempts = catalog.ledger.attempts(run=RUN)
        steps = [item for item in attempts if item.step != "engine"]
        assert len(steps) == 3 + MEMBERS
        assert {item.status for item in attempts} == {"done"}
        assert len({item.id for item in attempts}) == len(attempts)
        assert total(attempts).attempts == len(steps) + 1
        assert len(list(catalog.ledger.all_results())) == 3 + MEMBERS
        assert [item.version for item in catalog.names.history("model", "task")] == [1]
        assert len(catalog.packages.find()) == 1
    assert (folder / "notes.txt").read_text().count("begin") == len(chain.STEPS)
    assert database.lost > 0 or share < 0.1


def _produce(store: Store, catalog: Catalog, folder: Path) -> str:
    import chain_steps

    from modelworks.compute.inline import InlineExecutor
    from modelworks.workflow.scheduler import Scheduler

    params = {"notes": str(folder / "notes.txt")}
    with Scheduler(InlineExecutor(), store, catalog, run_id=RUN) as run:
        table = run.call(chain_steps.ingest, {"source": folder / "source.csv"}, params)
        parts = run.call(chain_steps.split, {"table": table.output("out.txt")}, params)
        fits = [
            run.call(chain_steps.fit, {"parts": parts.output("out.txt")}, params | {"member": member})
            for member in range(MEMBERS)
        ]
        inputs = {f"m{index}": fitted.output("out.txt") for index, fitted in enumerate(fits)}
        made = run.call(chain_steps.package, inputs, params)
        run.wait()
    return made.tree


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_every_record_is_written_once(tmp_path: Path, share: float) -> None:
    database = LossyDatabase(tmp_path / "catalog.db", share)
    with Catalog(database) as catalog:
        lease = catalog.runs.start("run")
        assert catalog.runs.get("run").status == "running"
        for number in range(15):
            assert catalog.names.set("n", "x", number, expected=number) == number + 1
            item = Attempt(id=str(number), run="run", step="s", key=str(number), status="done")
            catalog.ledger.finish(lease, [item], uses=[(str(number), "a")])
            row = PackageRow(
                digest=f"{number:064d}", name="p", run="run", label="", verdict="released", manifest={}
            )
            catalog.packages.add(row)
            assert catalog.looks.look("t" * 64, str(number)) == number + 1
            catalog.memory.remember("m", str(number % 3), number)
        assert [item.value for item in catalog.names.history("n", "x")] == list(range(15))
        with pytest.raises(Conflict):
            catalog.names.set("n", "x", 0, expected=3)
        assert len(catalog.ledger.attempts()) == 15
        assert len(catalog.ledger.uses("run")) == 15
        assert len(catalog.packages.find()) == 15
        assert len(catalog.memory.recall("m")) == 3
    assert database.lost > 0 or share < 0.1


def test_a_database_that_never_answers_is_an_error_and_a_later_retry_finds_the_commit(tmp_path: Path) -> None:
    database = LossyDatabase(tmp_path / "catalog.db", 0.0)
    with Catalog(database) as catalog:
        database.deaf = True
        with pytest.raises(StorageError, match="closed the connection"):
            catalog.names.set("n", "x", 1, expected=0, writer="w")
        database.deaf = False
        assert catalog.names.set("n", "x", 1, expected=0, writer="w") == 1
        assert len(catalog.names.history("n", "x")) == 1
    assert database.lost == 4
