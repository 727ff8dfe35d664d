"""The observation log: a bounded sampler that writes what was asked and answered to Parquet, or drops it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modelworks.core.clock import Clock, SystemClock
from modelworks.core.signature import CHARACTERS, NO_CHARACTER, Signature, Tensor
from modelworks.serving.model import Answer
from modelworks.serving.routing import Target
from modelworks.serving.tensors import DTYPES, Array, to_list
from modelworks.serving.work import Work

_log = logging.getLogger("modelworks.serving")
_DAY_S = 86_400.0
_FLUSH_S = 0.2
_SEEN_BYTES = 1000
_MANY_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class ObservationLimits:
    """Limits of the log.

    Attributes:
        waiting: Requests that may wait to be written; more are dropped and counted.
        rows: Rows of one request that are kept.
        values: Values of one row of a tensor that are kept; larger tensors are kept as their digest.
        flush_s: Longest time a request waits to be written.
        file_rows: Rows after which a file is closed.
        held_bytes: Bytes that wait to be written, over all files; beyond, requests wait and are dropped.
        busy_share: Share of its time the writer may take; with very many files it falls behind ``flush_s`` instead.
        retention_days: Days a file is kept.
        most_bytes: Bytes of the whole log; the oldest files go first.
    """

    waiting: int = 2048
    rows: int = 256
    values: int = 1024
    flush_s: float = 2.0
    file_rows: int = 50_000
    held_bytes: int = 16 * 2**20
    busy_share: float = 0.1
    retention_days: float = 90.0
    most_bytes: int = 5 * 2**30


@dataclass(slots=True)
class ObservationCounts:
    """What became of the requests that were chosen."""

    written: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Seen:
    endpoint: str
    version: str
    digest: str
    signature: Signature
    key: str | None
    audit: bool
    wall: float
    latency_s: float
    feeds: dict[str, Array]
    answer: Answer
    redact: frozenset[str]


@dataclass(slots=True)
class _Open:
    signature: Signature
    since: float
    rows: int = 0
    bytes: int = 0
    parts: list[_Seen] = field(default_factory=list)


class ObservationLog:
    """Samples answered requests; ``offer`` is called on the event loop and never waits.

    Two draws decide: a uniform one (``audit_share``, marked ``audit``, never influenced by anything) and the
    endpoint's own ``observe_share``. A writer thread turns what was drawn into Parquet files under
    ``<folder>/<endpoint>/``, one schema per package digest.

    Args:
        folder: Where the files go.
        observe_share: Share of requests that are written.
        audit_share: Share of the marked uniform sample.
        limits: Bounds of the log.
        clock: Source of wall time.
        seed: Seed of the draws; ``None`` draws differently each time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        observe_share: float,
        audit_share: float,
        limits: ObservationLimits | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> None:
        self.limits = limits or ObservationLimits()
        self.counts = ObservationCounts()
        self.retention_days: dict[str, float] = {}
        self._folder = folder
        self._observe_share = observe_share
        self._audit_share = audit_share
        self._clock = clock or SystemClock()
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self._waiting: deque[_Seen] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._open: dict[tuple[str, str], _Open] = {}
        self._held = 0
        self._swept = 0.0
        self._number = 0
        self._thread = threading.Thread(target=self._write, name="serving-observe", daemon=True)
        self._thread.start()

    def offer(self, target: Target, work: Work, answer: Answer, key: str | None, latency_s: float) -> None:
        """Maybe keep an answered request; drops it if the writer is behind."""
        settings = target.policy.settings
        draw = self._random.random
        audit = draw() < settings.get("audit", self._audit_share)
        if audit or draw() < settings.get("observe", self._observe_share):
            self._keep(target, work, answer, key, latency_s, audit)

    def offer_many(self, work: Work, answers: Sequence[Answer], latency_s: float) -> None:
        """Maybe keep the answers of a request that asked several models; each is drawn for itself."""
        draw = self._random.random
        for position, target in enumerate(work.several):
            settings = target.policy.settings
            audit = draw() < (settings.get("audit", self._audit_share) if settings else self._audit_share)
            if audit or draw() < settings.get("observe", self._observe_share):
                self._keep(target, work, answers[position], work.key, latency_s, audit)

    def _keep(
        self, target: Target, work: Work, answer: Answer, key: str | None, latency_s: float, audit: bool
    ) -> None:
        if len(self._waiting) >= self.limits.waiting:
            self.counts.dropped += 1
            return
        redact = frozenset(target.policy.settings.get("redact", ()))
        self._waiting.append(
            _Seen(
                target.endpoint, target.number, target.digest, target.signature, key, audit, self._clock.wall(),
                latency_s, work.feeds, answer, redact,
            )
        )  # fmt: skip
        if len(self._waiting) == 1:
            self._wake.set()

    def close(self) -> None:
        """Write what waits and stop."""
        self._closing = True
        self._wake.set()
        self._thread.join(10.0)

    # -- the writer --------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while not (self._closing and not self._waiting):
            self._wake.wait(self.limits.flush_s)
            self._wake.clear()
            start = time.thread_time()
            try:
                self._take()
                self._flush(every=self._closing)
                self._sweep()
            except Exception as error:
                # The log must never take the server down; what could not be written is counted.
                self.counts.failed += sum(item.rows for item in self._open.values()) or 1
                self._open.clear()
                self._held = 0
                _log.warning("observations were not written: %s", type(error).__name__)
            if not self._closing:
                # In short sleeps, for a server that ends waits for this thread.
                rest = (time.thread_time() - start) * (1.0 / self.limits.busy_share - 1.0)
                end = time.monotonic() + max(min(0.05, self.limits.flush_s), rest)
                while not self._closing and (left := end - time.monotonic()) > 0:
                    time.sleep(min(0.05, left))
        with contextlib.suppress(OSError):
            self._flush(every=True)

    def _take(self) -> None:
        while self._waiting and self._held < self.limits.held_bytes:
            seen = self._waiting.popleft()
            item = self._open.setdefault(
                (seen.endpoint, seen.digest), _Open(seen.signature, since=time.monotonic())
            )
            size = _make_small(seen, self.limits)
            item.parts.append(seen)
            item.rows += len(next(iter(seen.feeds.values())))
            item.bytes += size
            self._held += size
            if item.rows >= self.limits.file_rows:
                self._save((seen.endpoint, seen.digest))

    def _flush(self, *, every: bool) -> None:
        """Close the files that are due, the oldest first; not more at once than a fifth of a second's work."""
        start = time.thread_time()
        now = time.monotonic()
        for key in list(self._open):
            if every or now - self._open[key].since >= self.limits.flush_s:
                self._save(key)
                if not every and time.thread_time() - start > _FLUSH_S:
                    break

    def _save(self, key: tuple[str, str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        item = self._open.pop(key)
        self._held -= item.bytes
        endpoint, digest = key
        folder = self._folder / endpoint
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._number += 1
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._clock.wall()))
        name = f"seen-{stamp}-{digest[:12]}-{os.getpid()}-{self._number}.parquet"
        temporary = folder / f".{name}"
        # Zstandard and a dictionary cost more per column than a few numbers are worth.
        schema = schema_of(item.signature)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        coding = "zstd" if item.rows >= _MANY_ROWS else "snappy"
        table = pa.table(_columns(item, self.limits), schema=schema)
        pq.write_table(table, temporary, compression=coding, use_dictionary=texts)
        temporary.rename(folder / name)
        pa.default_memory_pool().release_unused()
        self.counts.written += item.rows

    def _sweep(self) -> None:
        """Delete files past their retention, and the oldest ones while the log is too large."""
        if time.monotonic() - self._swept < 60.0 and self._swept:
            return
        self._swept = time.monotonic()
        now = self._clock.wall()
        kept: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*/seen-*.parquet"):
            days = self.retention_days.get(path.parent.name, self.limits.retention_days)
            status = path.stat()
            if now - status.st_mtime > days * _DAY_S:
                path.unlink(missing_ok=True)
            else:
                kept.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept, key=lambda item: item[0]):
            if total <= self.limits.most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def schema_of(signature: Signature) -> Any:
    """Return the Arrow schema of a package's log files: the same for every file of one signature."""
    import pyarrow as pa

    fields = [
        pa.field("wall", pa.float64()),
        pa.field("endpoint", pa.string()),
        pa.field("version", pa.string()),
        pa.field("digest", pa.string()),
        pa.field("key", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("audit", pa.bool_()),
        pa.field("latency_ms", pa.float64()),
    ]
    for tensor in signature.inputs:
        plain = pa.string() if _is_text(tensor) else _arrow_type(tensor, packed=_is_packed(tensor))
        fields += [pa.field(f"in.{name}", plain) for name in tensor.columns or (tensor.name,)]
    fields += [
        pa.field(f"out.{tensor.name}", _arrow_type(tensor, packed=False)) for tensor in signature.outputs
    ]
    return pa.schema(fields)


def _arrow_type(tensor: Tensor, *, packed: bool) -> Any:
    import pyarrow as pa

    plain = pa.string() if tensor.datatype == "BYTES" else pa.from_numpy_dtype(DTYPES[tensor.datatype])
    if packed or len(tensor.shape) == 1:
        return plain
    return pa.struct([("sha256", pa.string()), ("shape", pa.list_(pa.int64())), ("values", pa.list_(plain))])


def _make_small(seen: _Seen, limits: ObservationLimits) -> int:
    """Cut a request down to the rows and values that are kept, in copies: views would keep whole bodies in memory.

    Returns about how many bytes it takes then.
    """
    texts = {tensor.name for tensor in seen.signature.inputs if _is_text(tensor)}
    seen.feeds = {
        name: array[: limits.rows].copy() if name in texts else _small(array, limits)
        for name, array in seen.feeds.items()
    }
    seen.answer = {name: _small(np.asarray(array), limits) for name, array in seen.answer.items()}
    return _SEEN_BYTES + sum(int(array.nbytes) for array in (*seen.feeds.values(), *seen.answer.values()))


def _small(array: Array, limits: ObservationLimits) -> Array:
    rows = array[: limits.rows]
    if rows.ndim == 1 or rows[0].size <= limits.values:
        return rows.copy()
    digests = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        digests[index] = _kept(row, limits)
    return digests


def _columns(item: _Open, limits: ObservationLimits) -> dict[str, list[Any]]:
    """Return the columns of a file: identity, inputs by column or tensor, outputs."""
    found: dict[str, list[Any]] = {}
    for seen in item.parts:
        count = len(next(iter(seen.feeds.values())))
        columns: dict[str, list[Any]] = {
            "wall": [seen.wall] * count,
            "endpoint": [seen.endpoint] * count,
            "version": [seen.version] * count,
            "digest": [seen.digest] * count,
            "key": [seen.key] * count,
            "row": list(range(count)),
            "audit": [seen.audit] * count,
            "latency_ms": [seen.latency_s * 1e3] * count,
        }
        for tensor in seen.signature.inputs:
            for name, array in _named(tensor, seen.feeds[tensor.name]):
                columns[f"in.{name}"] = _kept_column(array, name in seen.redact, limits)
        for tensor in seen.signature.outputs:
            values = seen.answer.get(tensor.name, np.empty(count, object))
            columns[f"out.{tensor.name}"] = _kept_column(values, tensor.name in seen.redact, limits)
        for name, kept in columns.items():
            found.setdefault(name, []).extend(kept)
    return found


def _kept_column(array: Array, hidden: bool, limits: ObservationLimits) -> list[Any]:
    if hidden:
        return [None] * len(array)
    if array.ndim == 1 and array.dtype != object:
        return list(array.tolist())
    return [_kept(value, limits) for value in array]


def _is_packed(tensor: Tensor) -> bool:
    return bool(tensor.columns) and not tensor.payload


def _is_text(tensor: Tensor) -> bool:
    return tensor.payload and tensor.name == CHARACTERS and len(tensor.columns) == 1


def _named(tensor: Tensor, array: Array) -> list[tuple[str, Array]]:
    """Return the columns of an input; the code points of a text become the text again."""
    if _is_text(tensor):
        texts = np.empty(len(array), object)
        for index, codes in enumerate(array):
            kept = codes[codes != NO_CHARACTER].astype("<u4").tobytes()
            texts[index] = kept.decode("utf-32-le", "replace")
        return [(tensor.columns[0], texts)]
    if _is_packed(tensor):
        return [(name, array[:, index]) for index, name in enumerate(tensor.columns)]
    return [((tensor.columns or (tensor.name,))[0], array)]


def _kept(value: Any, limits: ObservationLimits) -> Any:
    if isinstance(value, np.ndarray):
        if value.size > limits.values:
            from modelworks.core.digest import digest_bytes

            data = json.dumps(to_list(value)).encode() if value.dtype == object else value.tobytes()
            return {"sha256": digest_bytes(data), "shape": list(value.shape), "values": None}
        return {"sha256": None, "shape": list(value.shape), "values": to_list(value)}
    if isinstance(value, np.generic):
        return value.item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
