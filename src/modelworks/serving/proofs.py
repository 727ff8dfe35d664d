"""The record of which packages were proven in the limited child, and which are quarantined and why."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How a package's first load in the limited child ended; kept by digest.

    ``shares`` says whether its parts, backbone and head, were found to answer as the whole does.
    """

    digest: str
    outcome: str
    cause: str
    wall: float
    shares: bool | None = None


class Proofs:
    """The durable record of proven and quarantined packages, one small file each.

    Args:
        folder: Where the records are kept; ``None`` keeps them in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, Proof] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def of(self, digest: str) -> Proof | None:
        """Return the record of a package, if there is one."""
        found = self._known.get(digest)
        if found is None and self._folder is not None:
            try:
                found = Proof(**json.loads((self._folder / f"{digest}.json").read_bytes()))
            except (OSError, ValueError, TypeError):
                return None
            self._known[digest] = found
        return found

    def put(self, proof: Proof) -> None:
        """Record an outcome durably."""
        self._known[proof.digest] = proof
        if self._folder is None:
            return
        temporary = self._folder / f".{proof.digest}.{os.getpid()}.{threading.get_ident()}"
        with temporary.open("wb") as stream:
            stream.write(json.dumps(asdict(proof)).encode())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(self._folder / f"{proof.digest}.json")

    def forget(self, digest: str) -> None:
        """Drop a record, so that the next load proves the package again."""
        self._known.pop(digest, None)
        if self._folder is not None:
            (self._folder / f"{digest}.json").unlink(missing_ok=True)
