"""Artifacts by content: round trips, refusal of what is damaged or hostile, and the sweep."""

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.digest import canonical_json, digest_bytes, digest_file
from modelworks.core.errors import InputError, NotFound, TrustError, UsageError
from modelworks.storage.store import Entry, Store
from modelworks.storage.sweep import sweep

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("Cs",)), min_size=1
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 100)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_bytes_and_files_come_back_under_their_digest(store: Store, tmp_path: Path) -> None:
    digest = store.put_bytes(b"model")
    assert digest == digest_bytes(b"model")
    assert store.read(digest) == b"model"
    source = tmp_path / "file"
    source.write_bytes(b"model")
    assert store.put_file(source) == digest
    assert source.exists()
    assert store.put_file(source, move=True) == digest
    assert not source.exists()
    assert stat.S_IMODE(store.path(digest).stat().st_mode) == 0o444
    assert list(store.digests()) == [digest]
    assert not list(store.unfinished.iterdir())


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=6))
def test_a_tree_comes_back_whole(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("tree")
    store = Store(root / "store")
    folder = root / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    for name, data in files.items():
        (folder / "deep" / "er" / name).write_bytes(data)
    digest, _ = store.put_tree(folder)
    assert {name: path.read_bytes() for name, path in store.open_tree(digest).items()} == {
        f"deep/er/{name}": data for name, data in files.items()
    }
    assert store.put_tree(store.tree_folder(digest))[0] == digest
    assert store.put_tree(folder, move=True)[0] == digest
    store.checkout_tree(digest, root / "out")
    assert store.put_tree(root / "out")[0] == digest
    shutil.rmtree(root)


def test_links_and_devices_are_refused(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="link"):
        store.put_tree(folder)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError):
        store.put_tree(folder)


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "", "a\\b", "nul\0"])
def test_a_hostile_tree_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    inside = store.put_bytes(b"x")
    listing = store.put_listing({name: Entry(digest=inside, size=1)})
    with pytest.raises(TrustError):
        store.checkout_tree(listing, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b'{"files":3,"format":"modelworks.tree/1"}', b"\xff\xfe"]
)
def test_what_is_no_tree_is_refused(store: Store, data: bytes) -> None:
    with pytest.raises(TrustError, match="not a tree"):
        store.listing(store.put_bytes(data))


def test_a_listing_without_digests_is_refused(store: Store) -> None:
    files = {"a": {"digest": "../../x", "size": 1}}
    with pytest.raises(TrustError, match="without a digest"):
        store.listing(store.put_bytes(canonical_json({"format": "modelworks.tree/1", "files": files})))


def test_damage_is_found_named_and_healed(store: Store) -> None:
    digest = store.put_bytes(b"champion")
    path = store.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"champiom")
    with pytest.raises(TrustError, match=digest):
        store.verify(digest)
    with pytest.raises(TrustError, match="mw doctor --repair"):
        store.read(digest)
    store.discard(digest)
    with pytest.raises(NotFound):
        store.path(digest)
    store.put_bytes(b"champion")
    store.verify(digest)


def test_a_shortened_blob_is_written_again(store: Store) -> None:
    digest = store.put_bytes(b"champion")
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(b"")
    assert store.put_bytes(b"champion") == digest
    store.verify(digest)


def test_only_digests_are_names(store: Store) -> None:
    for name in ("../../etc/passwd", "A" * 64, ""):
        with pytest.raises(UsageError):
            store.path(name)


def _age(store: Store, seconds: float = 10_000) -> None:
    then = time.time() - seconds
    for path in store.root.rglob("*"):
        os.utime(path, (then, then))


def test_the_sweep_keeps_what_is_named_and_what_is_young(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"a" * 10)
    tree, _ = store.put_tree(folder)
    store.tree_folder(tree)
    loose = store.put_bytes(b"b" * 20)
    other = store.put_listing({})
    store.tree_folder(other)
    assert sweep(store, []).blobs == 0
    _age(store)
    young = store.put_bytes(b"young")
    swept = sweep(store, [tree])
    assert (swept.blobs, swept.trees) == (2, 1)
    assert swept.size >= 20
    assert not store.has(loose)
    assert store.has(young)
    assert store.put_tree(store.tree_folder(tree))[0] == tree


def test_finding_a_blob_again_protects_it_from_the_sweep(store: Store) -> None:
    digest = store.put_bytes(b"used again")
    _age(store)
    store.put_bytes(b"used again")
    assert sweep(store, []).blobs == 0
    assert store.has(digest)


def test_the_sweep_removes_unfinished_work_of_dead_processes_only(store: Store) -> None:
    mine = store.staging("mine")
    code = (
        "import sys; from pathlib import Path; from modelworks.storage.store import Store;"
        "print(Store(Path(sys.argv[1])).staging('theirs'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root)], check=True, capture_output=True, text=True, timeout=60
    )
    theirs = Path(done.stdout.strip())
    assert theirs.is_dir()
    assert sweep(store, []).staging == 1
    assert mine.is_dir()
    assert not theirs.exists()


def test_one_store_used_by_two_objects(store: Store) -> None:
    other = Store(store.root)
    digest = other.put_bytes(b"shared")
    assert digest_file(store.path(digest)) == digest
