"""F5: a disk that is full at every write site; and what F6 says about a device that fails."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from chain import STEPS, prepare, produce

from modelworks.core.errors import DiskFull, NotFound, StorageError
from modelworks.storage.disk import Disk
from modelworks.storage.store import Store

HERE = Path(__file__).parent


def _may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        "mkdir -p /tmp/.mw-probe && mount -t tmpfs -o size=64k tmpfs /tmp/.mw-probe",
    ]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _may_mount(), reason="this system allows no mounts in a user namespace (unshare -rm)")
def test_f5_the_line_goes_on_as_the_disk_grows(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, str(HERE / "full_disk_driver.py"), str(mount)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *starts, ended, left = [json.loads(line) for line in done.stdout.splitlines()]
    assert "tree" in starts[-1], starts[-1]
    assert len(starts) > 5
    for start in starts[:-1]:
        assert start["kind"] == "DiskFull", start
        assert start["code"].startswith("MW41")
        assert "full" in start["message"]
        assert start["hint"]
    ends = [note.removeprefix("end ") for note in ended["notes"] if note.startswith("end")]
    assert set(ends) == set(STEPS)
    assert ended["again"] == {"tree": starts[-1]["tree"]}
    assert left["left"] == []


class FullDisk(Disk):
    """A disk on which one operation finds no space."""

    def __init__(self, deadly: int) -> None:
        self.count = 0
        self.deadly = deadly

    def _full(self, path: Path) -> None:
        self.count += 1
        if self.count == self.deadly:
            raise DiskFull(f"The disk is full: write of {path} needs 1 bytes more.", code="MW4101")

    def write(self, path: Path, blocks: Iterable[bytes | memoryview]) -> int:
        self._full(path)
        return super().write(path, blocks)

    def rename(self, source: Path, target: Path) -> None:
        self._full(target)
        super().rename(source, target)


def test_f5_at_every_write_of_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(name * 10)
    deadly = 0
    while True:
        deadly += 1
        root = tmp_path / f"store-{deadly}"
        store = Store(root, FullDisk(deadly))
        try:
            tree, _ = store.put_tree(folder)
        except DiskFull:
            clean = Store(root)
            assert not [digest for digest in clean.digests() if clean.verify(digest) is not None]
            tree, _ = clean.put_tree(folder)
            assert len(clean.open_tree(tree)) == 2
        else:
            break
    assert deadly > 5
    assert len(store.open_tree(tree)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_f5_a_refused_write_names_the_path_and_the_bytes(tmp_path: Path) -> None:
    class ToFull(type(Path())):  # type: ignore[misc]
        """A path whose file is /dev/full."""

        def open(self, *_args: object, **_options: object) -> object:
            return open("/dev/full", "wb", buffering=0)

        def unlink(self, missing_ok: bool = False) -> None:
            assert missing_ok

    with pytest.raises(DiskFull, match="needs 5 bytes more") as caught:
        Disk().write(ToFull(tmp_path / "target"), [b"12345"])
    assert caught.value.where == str(tmp_path / "target")
    assert "mw gc" in (caught.value.hint or "")


class BrokenDisk(Disk):
    """A disk whose sync fails."""

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def _fail(self) -> None:
        raise StorageError(f"The fsync failed: {os.strerror(errno.EIO)}.", code="MW4001")

    def fsync(self, path: Path) -> None:
        if self._operation == "fsync":
            self._fail()
        super().fsync(path)

    def fsync_dir(self, folder: Path) -> None:
        if self._operation == "fsync_dir" and folder.name == "blobs":
            self._fail()
        super().fsync_dir(folder)


@pytest.mark.parametrize("operation", ["fsync", "fsync_dir"])
def test_f6_a_failed_sync_is_not_acknowledged(tmp_path: Path, operation: str) -> None:
    store = Store(tmp_path / "store", BrokenDisk(operation))
    for _ in range(2):
        with pytest.raises(StorageError, match="Input/output error"):
            store.put_bytes(b"model")
    healthy = Store(tmp_path / "store")
    if operation == "fsync":
        with pytest.raises(NotFound):
            healthy.path("9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4")
    digest = healthy.put_bytes(b"model")
    healthy.verify(digest)


def _may_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode
        == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not _may_trace(), reason="this system allows no tracing (strace)")
@pytest.mark.parametrize(
    ("call", "when"),
    [("fsync", 4), ("fsync", 9), ("fsync", 14), ("fdatasync", 1), ("fdatasync", 5), ("fdatasync", 9)],
)
def test_f6_a_device_that_fails_under_the_real_program(tmp_path: Path, call: str, when: int) -> None:
    prepare(tmp_path / "line")
    code = (
        "import json, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); from chain import produce\n"
        "from modelworks.core.errors import ModelworksError\n"
        "try:\n    print(json.dumps({'tree': produce(Path(sys.argv[1]))}))\n"
        "except ModelworksError as error:\n    print(json.dumps(error.to_json()))\n"
    )
    log = tmp_path / "strace.log"
    # The injected call must be traced too, or nothing is injected and the test proves nothing.
    trace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(log),
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        f"inject={call}:error=EIO:when={when}",
    ]
    done = subprocess.run(
        [*trace, sys.executable, "-c", code, str(tmp_path / "line"), str(HERE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "(INJECTED)" in log.read_text()
    answer = json.loads(done.stdout.splitlines()[-1])
    assert "tree" not in answer, "a failed sync was taken for success"
    assert answer["kind"] in ("StorageError", "ExecutionError"), answer
    assert "EIO" in answer["message"] or "rror" in answer["message"]
    tree = produce(tmp_path / "line")
    store = Store(tmp_path / "line" / "store")
    for digest in store.digests():
        store.verify(digest)
    assert store.open_tree(tree)
