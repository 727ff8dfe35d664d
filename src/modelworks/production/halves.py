"""A head and the backbone below it, run one after the other; all heads on a backbone share its looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.backbone import EMBEDDING
from modelworks.production.embedding import GRAPH

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from modelworks.compute.runtime import GraphSession

KEPT_LOOKS = 64
"""Looks that are kept; the golden rows of one line are a handful."""


class Halves:
    """Answers feeds as the fused graph of a backbone and a head does.

    Args:
        embedded: Folder of ``embed`` for the backbone; its content never changes.
        head: The head's graph, loaded.
    """

    def __init__(self, embedded: Path, head: GraphSession) -> None:
        self._embedded = embedded
        self._head = head

    def run(
        self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Return output name -> array."""
        return self._head.run({EMBEDDING: _looks(self._embedded).at(feeds)}, outputs)


class _Looks:
    """What one backbone saw in the feeds it was shown last."""

    def __init__(self, onnx: bytes) -> None:
        from modelworks.compute.runtime import GraphSession

        self._session = GraphSession(onnx)
        self._seen: dict[Any, npt.NDArray[np.float32]] = {}

    def at(self, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        key = tuple((name, value.shape, value.tobytes()) for name, value in sorted(feeds.items()))
        if key not in self._seen:
            if len(self._seen) >= KEPT_LOOKS:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = self._session.run(feeds, (EMBEDDING,))[EMBEDDING]
        return self._seen[key]


@lru_cache(maxsize=1)
def _looks(embedded: Path) -> _Looks:
    return _Looks(backbone_bytes(embedded))


def backbone_bytes(embedded: Path) -> bytes:
    """Return the graph of a backbone; the tasks of a line ask for the same one after the other."""
    file = embedded / GRAPH
    found = file.stat()
    return _bytes(file, found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=1)
def _bytes(file: Path, _node: int, _changed: int) -> bytes:
    return file.read_bytes()
