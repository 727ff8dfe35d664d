"""A bounded cache of embeddings by the content of the row they were computed from."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from modelworks.serving.tensors import Array, to_binary


class EmbeddingCache:
    """Least recently used embeddings go first.

    Args:
        most_bytes: Bytes of embeddings that are kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self.hits = 0
        self.misses = 0
        self._most_bytes = most_bytes
        self._known: OrderedDict[bytes, Array] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, keys: list[bytes]) -> list[Array | None]:
        """Return the known embeddings."""
        with self._lock:
            found = []
            for key in keys:
                value = self._known.get(key)
                if value is not None:
                    self._known.move_to_end(key)
                found.append(value)
            known = sum(value is not None for value in found)
            self.hits += known
            self.misses += len(keys) - known
            return found

    def put(self, keys: list[bytes], embeddings: Array) -> None:
        """Keep embeddings; row ``i`` belongs to ``keys[i]``."""
        with self._lock:
            for key, row in zip(keys, embeddings, strict=True):
                if key in self._known:
                    continue
                # A copy: a view would keep the whole batch in memory.
                self._known[key] = np.array(row)
                self._bytes += row.nbytes + len(key)
            while self._bytes > self._most_bytes and self._known:
                key, row = self._known.popitem(last=False)
                self._bytes -= row.nbytes + len(key)


def row_keys(feeds: Mapping[str, Array]) -> list[bytes]:
    """Return one key per row: BLAKE2b over the bytes of the row in every input."""
    arrays = list(feeds.values())
    rows = len(arrays[0])
    if len(arrays) == 1 and arrays[0].dtype != object:
        array = np.ascontiguousarray(arrays[0])
        width = array.nbytes // rows
        whole = array.view(np.uint8).reshape(-1).data
        return [
            hashlib.blake2b(whole[start : start + width], digest_size=16).digest()
            for start in range(0, array.nbytes, width)
        ]
    keys = []
    for row in range(rows):
        hasher = hashlib.blake2b(digest_size=16)
        for array in arrays:
            part = to_binary(array[row : row + 1])
            hasher.update(len(part).to_bytes(8, "little"))
            hasher.update(part)
        keys.append(hasher.digest())
    return keys
