"""The weights of big models, once in memory for all workers of a server: packed and written by one, mapped by all.

ONNX Runtime packs matrices for its kernels, and the packed copy is what a run reads; so it is this copy that is
shared, not the file of the package. Every worker still verifies the whole package at every load. What one of them
derived from the verified bytes lies in a folder of the server's own under a keyed digest (HMAC-SHA-256), whose key only
this server's processes have (the parent hands it to them, it is never written down), and is checked before each use.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import logging
import mmap
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelworks.compute.runtime import GRAPH_FILE, WEIGHTS_FILE, GraphSession
from modelworks.core.digest import digest_bytes
from modelworks.core.errors import TrustError
from modelworks.serving.tensors import Array

_log = logging.getLogger("modelworks.serving")

SHARED_BYTES = 8 * 2**20
"""Graphs below this size are loaded privately: what a worker saves is less than the files and checks cost."""

_MAC, _PLAIN, _OWNER, _SWEEP = "mac", "plain", "owner", "sweep"


class WeightsFolder:
    """The folder of one server and the key to what lies in it; kept by the parent of the workers, removed at its end.

    Args:
        state: State folder of the installation; what servers that died left there is removed.
    """

    def __init__(self, state: Path) -> None:
        root = state / "weights"
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.secret = secrets.token_bytes(32)
        self.path = root / digest_bytes(self.secret)[:16]
        with _locked(root / _SWEEP):
            for other in root.iterdir():
                if other.is_dir() and _deserted(other):
                    shutil.rmtree(other, ignore_errors=True)
            self.path.mkdir(mode=0o700)
            self._held = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove the folder; what workers have mapped lives on until they let go of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)


def weights_folder(state: Path) -> WeightsFolder | None:
    """Return a folder for the workers' weights; ``None``, and a line in the log, where the file system has no locks."""
    try:
        return WeightsFolder(state)
    except OSError as error:
        _log.warning("workers share no weights: %s", error.strerror or error)
        return None


class SharedWeights:
    """Sessions whose weights are mapped from files that all workers of a server share. Any thread may call.

    Args:
        folder: ``WeightsFolder.path``.
        secret: Its key.
        cap_bytes: Most bytes of files; those not used for longest are removed (who mapped them keeps them).
    """

    def __init__(self, folder: Path, secret: bytes, cap_bytes: int = 2**62) -> None:
        self._folder = folder
        self._secret = secret
        self._cap_bytes = cap_bytes

    def session(
        self, onnx: bytes, samples: Sequence[dict[str, Array]], threads: int = 1
    ) -> GraphSession | None:
        """Return a session of a verified graph, on shared weights if its form allows; ``None``: load it privately.

        The first worker that asks writes the files; others wait for it. Sharing never fails a load: whatever goes wrong
        is logged and the graph is loaded from the bytes at hand.

        Args:
            onnx: Verified bytes.
            samples: One-row feeds; shared and private answers to them must be equal to the last bit.
            threads: Threads of one run.
        """
        key = digest_bytes(onnx)
        place = self._folder / key
        try:
            with _locked(self._folder / f"{key}.lock"):
                if (place / _PLAIN).exists():
                    return None
                if place.exists():
                    try:
                        return self._open(place, key, len(onnx), threads)
                    except TrustError as error:
                        _log.error("%s They are made again from the package.", error.message)
                        shutil.rmtree(place)
                return self._make(place, key, onnx, samples, threads)
        except OSError as error:
            _log.warning("weights are not shared: %s", error.strerror or error)
            return None

    def _make(
        self, place: Path, key: str, onnx: bytes, samples: Sequence[dict[str, Array]], threads: int
    ) -> GraphSession | None:
        unfinished = f".making-{key}-"
        for left in self._folder.glob(f"{unfinished}*"):
            # Of a worker that was killed at it: whoever holds the lock is alone with this graph.
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=unfinished, dir=self._folder))
        try:
            private = GraphSession(onnx, threads=threads, arena=False, keep=temporary)
            written = temporary / WEIGHTS_FILE
            if not written.exists() or written.stat().st_size < len(onnx) // 2:
                return self._remember_plain(place, private)
            for name in (GRAPH_FILE, WEIGHTS_FILE):
                (temporary / name).chmod(0o400)
            (temporary / _MAC).write_bytes(self._checked(temporary, key)[0])
            self._make_room(written.stat().st_size)
            temporary.rename(place)
            shared = self._open(place, key, len(onnx), threads)
            if all(_equal(private.run(feeds), shared.run(feeds)) for feeds in samples):
                return shared
            _log.warning("weights of %s are not shared: answers would differ", key[:12])
            shutil.rmtree(place)
            return self._remember_plain(place, private)
        except TrustError as error:
            # ONNX Runtime cannot write or reload it in this form; whether it can load it at all shows the private way.
            _log.info("weights of %s are not shared: %s", key[:12], error.message)
            shutil.rmtree(place, ignore_errors=True)
            self._remember_plain(place, None)
            return None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _remember_plain(self, place: Path, session: GraphSession | None) -> GraphSession | None:
        place.mkdir(mode=0o700)
        (place / _PLAIN).touch(mode=0o600)
        return session

    def _open(self, place: Path, key: str, graph_bytes: int, threads: int) -> GraphSession:
        """Check the files and map them.

        Raises:
            TrustError: They are not what a worker of this server wrote.
        """
        found, graph, before = self._checked(place, key)
        try:
            kept = (place / _MAC).read_bytes()
        except OSError:
            kept = b""
        if not hmac.compare_digest(found, kept):
            raise _refused(key, "they are not the bytes that were written")
        session = GraphSession(graph, threads=threads, arena=False, weights=place)
        if _identity((place / WEIGHTS_FILE).lstat()) != before:
            raise _refused(key, "they changed while they were loaded")
        session.shared_bytes = graph_bytes
        os.utime(place)
        return session

    def _checked(self, place: Path, key: str) -> tuple[bytes, bytes, tuple[int, ...]]:
        """Return the keyed digest of a folder's files, the graph's bytes and the identity of the weights' file."""
        mac = hmac.new(self._secret, key.encode(), "sha256")
        _own(place.lstat(), key, folder=True)
        graph = b""
        identity: tuple[int, ...] = ()
        for name in (GRAPH_FILE, WEIGHTS_FILE):
            try:
                descriptor = os.open(place / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                raise _refused(key, f"{name} cannot be opened ({error.strerror})") from None
            with os.fdopen(descriptor, "rb") as stream:
                status = os.fstat(descriptor)
                _own(status, key, folder=False)
                mac.update(f"\n{name} {status.st_size}\n".encode())
                if name == GRAPH_FILE:
                    graph = stream.read()
                    mac.update(graph)
                elif status.st_size:
                    identity = _identity(status)
                    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
                        mac.update(mapped)
        return mac.digest(), graph, identity

    def _make_room(self, needed: int) -> None:
        """Remove the files that were not opened for longest until ``needed`` bytes fit under the cap."""
        sizes = []
        for place in self._folder.iterdir():
            if place.name.startswith("."):
                continue
            with contextlib.suppress(OSError):
                sizes.append((place.stat().st_mtime, (place / WEIGHTS_FILE).stat().st_size, place))
        used = sum(size for _, size, _ in sizes)
        for _, size, place in sorted(sizes):
            if used + needed <= self._cap_bytes:
                break
            with (
                contextlib.suppress(BlockingIOError),
                _locked(self._folder / f"{place.name}.lock", wait=False),
            ):
                shutil.rmtree(place)
                used -= size


def _own(status: os.stat_result, key: str, *, folder: bool) -> None:
    """Raise unless only this user could have written it."""
    right_kind = stat.S_ISDIR(status.st_mode) if folder else stat.S_ISREG(status.st_mode)
    writable = status.st_mode & (0o022 if folder else 0o222)
    if not right_kind or status.st_uid != os.geteuid() or writable:
        raise _refused(key, "others could have written them")
    if not folder and status.st_nlink != 1:
        raise _refused(key, "a file has a second name")


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes with every write, by whatever means."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _refused(key: str, why: str) -> TrustError:
    return TrustError(f"Shared weights of graph {key[:12]} are refused: {why}.", code="MW3424")


def _equal(one: dict[str, Array], other: dict[str, Array]) -> bool:
    return all(
        one[name].tobytes() == other[name].tobytes()
        if one[name].dtype.kind != "O"
        else one[name].tolist() == other[name].tolist()
        for name in one
    )


def _deserted(folder: Path) -> bool:
    """Say whether the server of a folder has ended."""
    try:
        with _locked(folder / _OWNER, wait=False):
            return True
    except BlockingIOError:
        return False


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which ends with the process at the latest."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
