"""What really happened: outcomes and corrections by request key, appended durably beside the observations."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from modelworks.core.clock import Clock, SystemClock
from modelworks.core.errors import StorageError
from modelworks.serving.errors import BadRequest

KINDS = ("outcome", "correction")
_VALUE_BYTES = 10_000
_FILE_BYTES = 64 * 2**20
_MOST_FILES = 16
"""Files of one endpoint: labels are never deleted to make room, and no client fills a disk with them."""


class Outcomes:
    """Appends outcomes to ``<folder>/<endpoint>/outcomes-N.jsonl``.

    Args:
        folder: Folder of the observation log.
        clock: Source of wall time.
    """

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        self._writing = threading.Lock()

    def put(self, endpoint: str, entries: list[dict[str, Any]]) -> None:
        """Append entries ``{key, row, value, kind, by}``; they are on disk when this returns.

        Raises:
            BadRequest: A key, kind or value that cannot be kept.
            StorageError: The file cannot be written, or the endpoint has as many outcomes as are kept.
        """
        wall = self._clock.wall()
        lines = []
        for entry in entries:
            if (
                not 0 < len(entry["key"]) <= 200
                or entry["kind"] not in KINDS
                or not 0 <= entry["row"] < 2**31
            ):
                raise BadRequest(
                    "An outcome has a key of 1 to 200 characters, a row and the kind outcome or correction.",
                    code="MW1419",
                )
            line = json.dumps({**entry, "wall": wall}, ensure_ascii=False)
            if len(line) > _VALUE_BYTES:
                raise BadRequest(f"An outcome may have {_VALUE_BYTES} bytes.", code="MW1419")
            lines.append(line + "\n")
        folder = self._folder / endpoint
        try:
            with self._writing:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                with self._file(folder).open("ab") as stream:
                    stream.write("".join(lines).encode())
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError as error:
            raise StorageError(f"The outcome cannot be kept: {error.strerror}.") from error

    @staticmethod
    def _file(folder: Path) -> Path:
        numbers = [int(path.stem.rpartition("-")[2]) for path in folder.glob("outcomes-*.jsonl")]
        last = max(numbers, default=1)
        path = folder / f"outcomes-{last}.jsonl"
        if path.exists() and path.stat().st_size > _FILE_BYTES:
            if len(numbers) >= _MOST_FILES:
                raise StorageError(
                    f"The outcomes of this endpoint fill {len(numbers)} files of {_FILE_BYTES} bytes.",
                    hint="move older outcomes-N.jsonl elsewhere",
                )
            path = folder / f"outcomes-{last + 1}.jsonl"
        return path
