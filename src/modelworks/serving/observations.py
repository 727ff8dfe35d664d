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


@dataclass(frozen=True, kw_only=True)
class ObservationLimits:
    """Limits of the log.

    Attributes:
        waiting: Requests that may wait to be written; more are dropped and counted.
        rows: Rows of one request that are kept.
        values: Values of one row of a tensor that are kept; larger tensors are kept as their digest.
        flush_s: Longest time a request waits to be written.
        file_rows: Rows after which a file is closed.
        retention_days: Days a file is kept.
        most_bytes: Bytes of the whole log; the oldest files go first.
    """

    waiting: int = 2048
    rows: int = 256
    values: int = 1024
    flush_s: float = 2.0
    file_rows: int = 50_000
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
    rows: list[dict[str, Any]] = field(default_factory=list)


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
        self._swept = 0.0
        self._number = 0
        self._thread = threading.Thread(target=self._write, name="serving-observe", daemon=True)
        self._thread.start()

    def offer(self, target: Target, work: Work, answer: Answer, key: str | None, latency_s: float) -> None:
        """Maybe keep an answered request; drops it if the writer is behind."""
        settings = target.policy.settings
        draw = self._random.random
        audit = draw() < settings.get("audit", self._audit_share)
        if not audit and not draw() < settings.get("observe", self._observe_share):
            return
        if len(self._waiting) >= self.limits.waiting:
            self.counts.dropped += 1
            return
        self._waiting.append(
            _Seen(
                target.endpoint, target.number, target.digest, target.signature, key, audit, self._clock.wall(),
                latency_s, work.feeds, answer, frozenset(settings.get("redact", ())),
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
            try:
                self._take()
                self._flush(every=self._closing)
                self._sweep()
            except Exception as error:
                # The log must never take the server down; what could not be written is counted.
                self.counts.failed += sum(len(item.rows) for item in self._open.values()) or 1
                self._open.clear()
                _log.warning("observations were not written: %s", type(error).__name__)
            if not self._closing:
                time.sleep(min(0.05, self.limits.flush_s))
        with contextlib.suppress(OSError):
            self._flush(every=True)

    def _take(self) -> None:
        while self._waiting:
            seen = self._waiting.popleft()
            item = self._open.setdefault(
                (seen.endpoint, seen.digest), _Open(seen.signature, since=time.monotonic())
            )
            item.rows.extend(_rows(seen, self.limits))
            if len(item.rows) >= self.limits.file_rows:
                self._save((seen.endpoint, seen.digest))

    def _flush(self, *, every: bool) -> None:
        now = time.monotonic()
        for key in list(self._open):
            if every or now - self._open[key].since >= self.limits.flush_s:
                self._save(key)

    def _save(self, key: tuple[str, str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        item = self._open.pop(key)
        rows = item.rows
        endpoint, digest = key
        folder = self._folder / endpoint
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._number += 1
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._clock.wall()))
        name = f"seen-{stamp}-{digest[:12]}-{os.getpid()}-{self._number}.parquet"
        temporary = folder / f".{name}"
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema_of(item.signature)), temporary, compression="zstd"
        )
        temporary.rename(folder / name)
        self.counts.written += len(rows)

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


def _rows(seen: _Seen, limits: ObservationLimits) -> list[dict[str, Any]]:
    """Turn one request into log rows: identity, inputs by column or tensor, outputs."""
    count = min(len(next(iter(seen.feeds.values()))), limits.rows)
    inputs = {
        name: array
        for tensor in seen.signature.inputs
        for name, array in _named(tensor, seen.feeds[tensor.name])
    }
    rows = []
    for index in range(count):
        row: dict[str, Any] = {
            "wall": seen.wall,
            "endpoint": seen.endpoint,
            "version": seen.version,
            "digest": seen.digest,
            "key": seen.key,
            "row": index,
            "audit": seen.audit,
            "latency_ms": seen.latency_s * 1e3,
        }
        for name, array in inputs.items():
            row[f"in.{name}"] = None if name in seen.redact else _kept(array[index], limits)
        for name, array in seen.answer.items():
            row[f"out.{name}"] = None if name in seen.redact else _kept(array[index], limits)
        rows.append(row)
    return rows


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
