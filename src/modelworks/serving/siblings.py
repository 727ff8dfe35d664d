"""The other workers of a server: each answers on a socket file of its own, so that one reading speaks for all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from modelworks.core.errors import TrustError

_LONGEST_PATH = 90
_WAIT_S = 2.0
_LOAD_S = 60.0
_SUMS = ("in_flight", "connections", "threads", "resident_mb")
_MODEL_SUMS = ("loaded", "used_mb", "cap_mb", "loads", "load_failures", "evictions")
_VERSION_SUMS = ("requests", "rows", "waiting_rows", "loads", "evictions")


class Siblings:
    """Finds and asks the other workers.

    Args:
        state: State folder that the workers share.
        token: A token that may read ``/v1/status``.
    """

    def __init__(self, state: Path, token: str) -> None:
        self._folder = _short(state / "workers")
        self._token = token
        self._own = self._folder / f"{os.getpid()}.sock"
        self._listener: asyncio.Server | None = None

    async def listen(self, connection: Callable[[], asyncio.Protocol]) -> None:
        """Answer the others from now on.

        Raises:
            TrustError: Others of this machine could put a socket of theirs beside ours, and be sent our token.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise TrustError(
                "Other users of this machine can write where the workers meet.",
                code="MW3415",
                where=str(self._folder),
                hint="remove it",
            )
        self._own.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(connection, str(self._own))

    def close(self) -> None:
        """Stop answering."""
        if self._listener is not None:
            self._listener.close()
            self._own.unlink(missing_ok=True)

    async def status(self, own: dict[str, Any]) -> dict[str, Any]:
        """Return the state of all workers as one; a worker that does not answer in time is left out."""
        if self._listener is None:
            return own
        answers = await asyncio.gather(*(self._ask(path) for path in self._others()))
        return merged([own, *(answer for answer in answers if answer is not None)])

    async def prepare(self, digest: str) -> None:
        """Let the others load a package before an act gives it traffic; one that cannot loads it when it must."""
        await self._tell("/v1/workers/prepare", {"digest": digest}, _LOAD_S)

    async def refresh(self) -> None:
        """Let the others take in an act that was recorded just now, so that it holds everywhere once it is told."""
        await self._tell("/v1/workers/refresh", {}, _WAIT_S)

    async def _tell(self, target: str, body: dict[str, Any], wait_s: float) -> None:
        if self._listener is not None:
            data = msgspec.json.encode(body)
            await asyncio.gather(
                *(self._exchange(path, "POST", target, data, wait_s) for path in self._others())
            )

    def _others(self) -> list[Path]:
        return [path for path in sorted(self._folder.glob("*.sock")) if path != self._own]

    async def _ask(self, path: Path) -> dict[str, Any] | None:
        answer = await self._exchange(path, "GET", "/v1/status?own", b"", _WAIT_S)
        if answer is None:
            return None
        found: dict[str, Any] = msgspec.json.decode(answer)
        return found

    async def _exchange(
        self, path: Path, method: str, target: str, body: bytes, wait_s: float
    ) -> bytes | None:
        """Return the body of an answer, or ``None`` if there is no good one in time."""
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(wait_s):
                reader, writer = await asyncio.open_unix_connection(str(path))
                try:
                    writer.write(head.encode("ascii") + body)
                    data = await reader.read()
                finally:
                    writer.close()
        except ConnectionRefusedError:
            # Its worker was killed and could not take the file along.
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except (OSError, TimeoutError):
            return None
        top, _, answer = data.partition(b"\r\n\r\n")
        return answer if top.startswith(b"HTTP/1.1 200") else None


def merged(states: list[dict[str, Any]]) -> dict[str, Any]:
    """Return several workers' states as one: counts are added; what is the same everywhere is the first one's.

    ``workers`` holds the process ids; a version is in the best state that any worker has it in.
    """
    first = states[0]
    whole = {**first, "workers": [state["pid"] for state in states]}
    if len(states) == 1:
        return whole
    for name in _SUMS:
        whole[name] = _sum(state[name] for state in states)
    whole["started"] = min(state["started"] for state in states)
    whole["models"] = {**first["models"]}
    for name in _MODEL_SUMS:
        whole["models"][name] = _sum(state["models"][name] for state in states)
    whole["doors"] = {
        door: {name: sum(state["doors"][door][name] for state in states) for name in counts}
        for door, counts in first["doors"].items()
    }
    whole["error_answers"] = {
        door: dict(sum((Counter(state["error_answers"][door]) for state in states), Counter()))
        for door in first["error_answers"]
    }
    if "observations" in first:
        names = first["observations"]
        whole["observations"] = {name: sum(state["observations"][name] for state in states) for name in names}
    versions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for state in states:
        for endpoint in state["endpoints"]:
            for version in endpoint["versions"]:
                versions.setdefault((endpoint["name"], version["number"]), []).append(version)
    whole["endpoints"] = [
        {
            **endpoint,
            "versions": [
                _version(versions[endpoint["name"], version["number"]]) for version in endpoint["versions"]
            ],
        }
        for endpoint in first["endpoints"]
    ]
    return whole


def _version(parts: list[dict[str, Any]]) -> dict[str, Any]:
    whole = {**next((part for part in parts if part["state"] == "ready"), parts[0])}
    for name in _VERSION_SUMS:
        whole[name] = sum(part[name] for part in parts)
    memory = [part["memory_mb"] for part in parts if part["memory_mb"] is not None]
    shared = [part["shared_mb"] for part in parts]
    whole["shared_mb"] = max(shared)
    # Shared weights are in memory once, however many workers count them to what they hold.
    whole["memory_mb"] = _sum([*memory, max(shared), -sum(shared)]) if memory else None
    for name in ("errors", "shadow"):
        keys = {key for part in parts for key in part[name]}
        whole[name] = {key: sum(part[name].get(key, 0) for part in parts) for key in sorted(keys)}
    for name in ("latency", "queue", "batch"):
        whole[name] = {
            "bounds": parts[0][name]["bounds"],
            "counts": [sum(counts) for counts in zip(*(part[name]["counts"] for part in parts), strict=True)],
            "total": sum(part[name]["total"] for part in parts),
        }
    return whole


def _sum(values: Iterable[float]) -> float:
    total = sum(values)
    return total if isinstance(total, int) else round(total, 3)


def _short(folder: Path) -> Path:
    """Return the folder, or one whose path fits into a socket's address."""
    if len(str(folder)) <= _LONGEST_PATH:
        return folder
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"modelworks-{os.getuid()}-{name}"
