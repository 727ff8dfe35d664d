"""A disk that records its operations, and every directory that a power cut may legally leave behind.

The model is that of a strict POSIX file system, harsher than ext4: bytes of a file are certain after ``fsync`` of the
file, names after ``fsync`` of their folder. Of what is not certain, any prefix of a folder's changes may have happened,
independently of other folders, and an unsynced file may be empty, whole or torn at a sector.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelworks.storage.disk import Disk

TEARS = (0, 1, 512, 4096)


@dataclass
class Inode:
    """A file without a name."""

    data: bytes
    synced: bool = False


@dataclass
class Folder:
    """Names that are certain, and changes that are not."""

    certain: dict[str, Inode] = field(default_factory=dict)
    changes: list[tuple[str, Inode | None]] = field(default_factory=list)

    def after(self, count: int) -> dict[str, Inode]:
        """Return the names after the first ``count`` changes."""
        names = dict(self.certain)
        for name, inode in self.changes[:count]:
            if inode is None:
                names.pop(name, None)
            else:
                names[name] = inode
        return names


class RecordedDisk(Disk):
    """Does every operation and keeps a log of them."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Path, Path | bytes | None]] = []

    def wrote(self, path: Path) -> None:
        """Record a file that a step wrote without us."""
        self.log.append(("write", path, path.read_bytes()))

    def write(self, path: Path, blocks: Iterable[bytes | memoryview]) -> int:
        written = super().write(path, blocks)
        self.wrote(path)
        return written

    def fsync(self, path: Path) -> None:
        super().fsync(path)
        self.log.append(("fsync", path, None))

    def fsync_dir(self, folder: Path) -> None:
        super().fsync_dir(folder)
        self.log.append(("fsync_dir", folder, None))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.log.append(("rename", source, target))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.log.append(("unlink", path, None))

    def make_dir(self, folder: Path) -> None:
        super().make_dir(folder)
        self.log.append(("make_dir", folder, None))


def model(log: list[tuple[str, Path, Path | bytes | None]]) -> dict[Path, Folder]:
    """Return what is certain and what is not after the operations of ``log``."""
    folders: dict[Path, Folder] = {}

    def folder(path: Path) -> Folder:
        return folders.setdefault(path, Folder())

    def change(path: Path, inode: Inode | None) -> None:
        folder(path.parent).changes.append((path.name, inode))

    def inode(path: Path) -> Inode:
        names = folder(path.parent)
        return names.after(len(names.changes))[path.name]

    for operation, path, other in log:
        if operation == "write":
            assert isinstance(other, bytes)
            change(path, Inode(other))
        elif operation == "fsync":
            inode(path).synced = True
        elif operation == "fsync_dir":
            names = folder(path)
            names.certain, names.changes = names.after(len(names.changes)), []
        elif operation == "rename":
            assert isinstance(other, Path)
            change(other, inode(path))
            change(path, None)
        elif operation == "unlink":
            change(path, None)
        elif operation == "make_dir":
            folder(path)
    return folders


def crash_states(
    log: list[tuple[str, Path, Path | bytes | None]], limit: int, source: random.Random
) -> Iterator[dict[Path, bytes]]:
    """Walk directories (path -> bytes) that a power cut after ``log`` may leave: all, or ``limit`` drawn ones."""
    folders = model(log)
    uncertain = [inode for inode in _inodes(folders) if not inode.synced]
    axes: list[list[object]] = [list(range(len(folder.changes) + 1)) for folder in folders.values()]
    axes += [
        sorted(
            {
                min(tear, len(inode.data))
                for tear in (*TEARS, len(inode.data) - 1, len(inode.data))
                if tear >= 0
            }
        )
        for inode in uncertain
    ]
    total = 1
    for axis in axes:
        total *= len(axis)
    choices: Iterable[tuple[object, ...]]
    if total <= limit:
        choices = itertools.product(*axes)
    else:
        choices = [tuple(source.choice(axis) for axis in axes) for _ in range(limit)]
    for choice in choices:
        counts, lengths = choice[: len(folders)], choice[len(folders) :]
        cut = {id(inode): length for inode, length in zip(uncertain, lengths, strict=True)}
        state: dict[Path, bytes] = {}
        for (path, folder), count in zip(folders.items(), counts, strict=True):
            assert isinstance(count, int)
            for name, inode in folder.after(count).items():
                length = cut.get(id(inode), len(inode.data))
                assert isinstance(length, int)
                state[path / name] = inode.data[:length]
        yield state


def _inodes(folders: dict[Path, Folder]) -> list[Inode]:
    found: dict[int, Inode] = {}
    for folder in folders.values():
        for inode in (*folder.certain.values(), *(inode for _, inode in folder.changes)):
            if inode is not None:
                found[id(inode)] = inode
    return list(found.values())


def build(state: dict[Path, bytes], old_root: Path, new_root: Path, empty: Iterable[Path]) -> None:
    """Make the directory of a state below ``new_root``."""
    for folder in empty:
        (new_root / folder.relative_to(old_root)).mkdir(parents=True, exist_ok=True)
    for path, data in state.items():
        target = new_root / path.relative_to(old_root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
