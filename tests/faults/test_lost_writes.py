"""F3 and F4: whatever a power cut leaves behind, what was acknowledged is whole and what was not is absent or whole."""

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from recorded_disk import RecordedDisk, build, crash_states

from modelworks.core.errors import NotFound
from modelworks.storage.catalog import Catalog
from modelworks.storage.disk import Disk
from modelworks.storage.pointers import Pointers
from modelworks.storage.store import Store
from modelworks.storage.sweep import sweep

SEED = int(os.environ.get("MODELWORKS_FAULT_SEED", "20261123"))


class Script:
    """A series of acts on a store; what each acknowledged, and after how many operations."""

    def __init__(self, root: Path, disk: RecordedDisk | None = None) -> None:
        self.root = root / "before"
        self.disk = disk or RecordedDisk()
        self.store = Store(self.root, self.disk)
        self.pointers = Pointers(self.store)
        self.acknowledged: list[tuple[int, str, object]] = []

    def done(self, kind: str, what: object) -> None:
        self.acknowledged.append((len(self.disk.log), kind, what))

    def play(self) -> None:
        self.done("blob", self.store.put_bytes(b"first" * 300))
        self.pointers.publish("champion", {"version": 1})
        self.done("name", 1)
        source = self.root.parent / "source"
        source.write_bytes(b"copied" * 1000)
        self.done("blob", self.store.put_file(source))
        folder = self.store.staging("attempt")
        for name in ("model.onnx", "report.html"):
            (folder / name).write_bytes(name.encode() * 700)
            self.disk.wrote(folder / name)
        self.done("tree", self.store.put_tree(folder, move=True)[0])
        self.done("blob", self.store.put_bytes(b"first" * 300))
        self.pointers.publish("champion", {"version": 2})
        self.done("name", 2)
        self.pointers.publish("champion", {"version": 3})
        self.done("name", 3)


class Unsynced(Disk):
    """Saves the time of syncing a directory that lives for a moment."""

    def fsync(self, path: Path) -> None:
        assert path.exists()

    fsync_dir = fsync


def check(script: Script, count: int, after: Path) -> None:
    """Open what was left after ``count`` operations and compare it with what was promised."""
    store = Store(after, Unsynced())
    pointers = Pointers(store)
    promised = [(kind, what) for position, kind, what in script.acknowledged if position <= count]
    newest = 0
    for kind, what in promised:
        if kind == "name":
            assert isinstance(what, int)
            newest = max(newest, what)
            continue
        assert isinstance(what, str)
        store.verify(what)
        if kind == "tree":
            for path in store.open_tree(what).values():
                store.verify(path.name)
    for digest in store.digests():
        store.verify(digest)
    try:
        pointer = pointers.read("champion")
    except NotFound:
        assert newest == 0
    else:
        assert pointer.damage == ""
        assert pointer.value["version"] in (newest, newest + 1)
    sweep(store, store.digests(), grace_s=0)
    assert store.put_bytes(b"life goes on")


def explore(script: Script, scratch: Path, states: int) -> int:
    """Check legal states after every operation; returns how many."""
    source = random.Random(SEED)
    folders = [script.root / name for name in ("", "blobs", "names", "trees", "staging")]
    made = [(name, path) for name, path, _ in script.disk.log].index(("fsync_dir", script.root))
    checked = 0
    for count in range(made + 1, len(script.disk.log) + 1):
        for state in crash_states(script.disk.log[:count], states, source):
            build(state, script.root, scratch, folders)
            try:
                check(script, count, scratch)
            except Exception as error:
                raise AssertionError(
                    f"MODELWORKS_FAULT_SEED={SEED}, after operation {count}: {error}"
                ) from error
            shutil.rmtree(scratch)
            checked += 1
    return checked


def test_f3_every_legal_state_keeps_the_promises(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.play()
    assert explore(script, tmp_path / "after", states=8) > 150


@pytest.mark.slow
def test_f3_many_more_states(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.play()
    assert explore(script, tmp_path / "after", states=40) > 900


class Careless(RecordedDisk):
    """A disk driver that forgets one kind of operation."""

    def __init__(self, forgotten: str) -> None:
        super().__init__()
        self._forgotten = forgotten

    def fsync(self, path: Path) -> None:
        if self._forgotten != "fsync":
            super().fsync(path)

    def fsync_dir(self, folder: Path) -> None:
        if self._forgotten != "fsync_dir" or folder.name == "before":
            super().fsync_dir(folder)


@pytest.mark.parametrize("forgotten", ["fsync", "fsync_dir"])
def test_the_shim_finds_a_store_that_forgets_to_sync(tmp_path: Path, forgotten: str) -> None:
    script = Script(tmp_path, Careless(forgotten))
    script.play()
    with pytest.raises(AssertionError, match="MODELWORKS_FAULT_SEED"):
        explore(script, tmp_path / "after", states=8)


def _commits(folder: Path, count: int) -> list[int]:
    """Make ``count`` acknowledged commits; returns the size of the write-ahead log after each."""
    catalog = Catalog(folder / "catalog.db")
    sizes = []
    for number in range(count):
        catalog.names.set("version", "x", {"number": number, "filler": "y" * 500}, expected=number)
        sizes.append((folder / "catalog.db-wal").stat().st_size)
    shutil.copytree(folder, folder.parent / "cut")
    catalog.close()
    return sizes


def test_f4_a_torn_log_keeps_every_commit_before_the_tear(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    sizes = _commits(folder, 8)
    wal = (tmp_path / "cut" / "catalog.db-wal").read_bytes()
    tears = {0, 1, 512, 4096, len(wal) - 1, len(wal)} | {
        size + extra for size in sizes for extra in (-1, 0, 1, 512)
    }
    for tear in sorted(tear for tear in tears if tear <= len(wal)):
        place = tmp_path / "opened"
        shutil.copytree(tmp_path / "cut", place)
        (place / "catalog.db-shm").unlink(missing_ok=True)
        (place / "catalog.db-wal").write_bytes(wal[:tear])
        if tear < min(sizes):
            # The schema itself was in the log and nothing was acknowledged that needs it.
            with sqlite3.connect(place / "catalog.db") as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
        else:
            with Catalog(place / "catalog.db") as catalog:
                versions = [item.version for item in catalog.names.history("version", "x")]
                survived = sum(size <= tear for size in sizes)
                assert versions == list(range(1, survived + 1))
                catalog.names.set("version", "x", {}, expected=survived)
        shutil.rmtree(place)


def test_f4_a_torn_name_serves_the_version_before_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", Disk())
    pointers = Pointers(store)
    pointers.publish("champion", {"version": 1})
    pointers.publish("champion", {"version": 2})
    path = tmp_path / "store" / "names" / "champion.json"
    data = path.read_bytes()
    for tear in (0, 1, len(data) - 1):
        path.write_bytes(data[:tear])
        pointer = pointers.read("champion")
        assert pointer.value == {"version": 1}
        assert "'champion' is damaged" in pointer.damage
        assert "mw doctor --repair" in pointer.damage
