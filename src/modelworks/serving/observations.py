"""The observation log: a bounded sampler that writes what was asked and answered to Parquet, or drops it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modelworks.core.clock import Clock, SystemClock
from modelworks.core.errors import ModelworksError
from modelworks.serving.model import Answer
from modelworks.serving.observed import (
    Drawn,
    ObservationLimits,
    Open,
    Seen,
    columns_of,
    make_small,
    schema_of,
    weight,
)
from modelworks.serving.routing import Target
from modelworks.serving.tensors import Array
from modelworks.serving.together import Gathering
from modelworks.serving.work import Work

_log = logging.getLogger("modelworks.serving")
_DAY_S = 86_400.0
_FLUSH_S = 0.2
_MANY_ROWS = 500
_NEVER = 2**62


@dataclass(slots=True)
class ObservationCounts:
    """What became of the requests that were chosen."""

    written: int = 0
    dropped: int = 0
    failed: int = 0


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
        self._share = 1.0 - (1.0 - audit_share) * (1.0 - observe_share)
        self._scale = -math.inf if self._share >= 1.0 else math.log1p(-self._share)
        self._gap = 0
        self._next_of_all()
        self._waiting: deque[Drawn] = deque()
        # Each is written by one thread: what waits is the difference.
        self._kept = self._taken = 0
        self._kept_bytes = self._taken_bytes = 0
        self._wake = threading.Event()
        self._closing = False
        self._open: dict[tuple[str, str], Open] = {}
        self._held = 0
        self._swept = 0.0
        self._number = 0
        self._thread = threading.Thread(target=self._write, name="serving-observe", daemon=True)
        self._thread.start()

    def offer(self, target: Target, work: Work, answer: Answer, key: str | None, latency_s: float) -> None:
        """Maybe keep an answered request; drops it if the writer is behind."""
        if target.policy.settings:
            audit, kept = self._draw(target)
        else:
            self._gap -= 1
            if self._gap >= 0:
                return
            audit, kept = self._next_of_all(), True
        if kept:
            self._keep([(target, 0, audit)], work, (answer,), key, latency_s)

    def _next_of_all(self) -> bool:
        """Draw the number of requests until the next that is kept; returns whether the present one is an audit.

        The gaps between those that are kept are geometric (Knuth, The Art of Computer Programming 2, 3.4.1).
        """
        draw = self._random.random
        self._gap = int(math.log(1.0 - draw()) / self._scale) if self._scale else _NEVER
        return draw() * self._share < self._audit_share

    def offer_many(self, work: Work, answers: Sequence[Answer | ModelworksError], latency_s: float) -> None:
        """Maybe keep the answers of a request that asked several models; each is drawn for itself.

        Those without shares of their own cost nothing but when they are kept.
        """
        asked: Gathering = work.several
        chosen: list[tuple[int, bool]] = []
        for number in asked.own:
            audit, kept = self._draw(asked.targets[number])
            if kept:
                chosen.append((number, audit))
        place = self._gap
        while place < len(asked.plain):
            audit = self._next_of_all()
            chosen.append((asked.plain[place], audit))
            place += 1 + self._gap
        self._gap = place - len(asked.plain)
        if chosen:
            places = [(asked.targets[number], asked.positions[number], audit) for number, audit in chosen]
            self._keep(places, work, answers, work.key, latency_s)

    def _draw(self, target: Target) -> tuple[bool, bool]:
        """Return whether a request is of the audit share, and whether it is kept at all."""
        settings = target.policy.settings
        draw = self._random.random
        audit = draw() < settings.get("audit", self._audit_share)
        return audit, audit or draw() < settings.get("observe", self._observe_share)

    def _keep(
        self,
        chosen: list[tuple[Target, int, bool]],
        work: Work,
        answers: Sequence[Answer | ModelworksError],
        key: str | None,
        latency_s: float,
    ) -> None:
        room = self.limits.waiting - (self._kept - self._taken)
        if room < len(chosen):
            self.counts.dropped += len(chosen) - max(0, room)
            chosen = chosen[: max(0, room)]
        size = weight(work.feeds) if chosen else 0
        if size and self._kept_bytes > self._taken_bytes:
            held = self._kept_bytes - self._taken_bytes
            if held + size > self.limits.waiting_bytes:
                self.counts.dropped += len(chosen)
                return
        if chosen:
            self._kept += len(chosen)
            self._kept_bytes += size
            self._waiting.append(Drawn(chosen, work.feeds, answers, key, self._clock.wall(), latency_s, size))
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
            drawn = self._waiting.popleft()
            # Heads asked together saw the same rows: these are kept once.
            small: dict[str, Array] | None = None
            for target, position, audit in drawn.chosen:
                answer = drawn.answers[position]
                if isinstance(answer, ModelworksError):
                    continue
                seen = Seen(
                    target.endpoint, target.number, target.digest, target.signature, drawn.key, audit, drawn.wall,
                    drawn.latency_s, drawn.feeds, answer, frozenset(target.policy.settings.get("redact", ())),
                )  # fmt: skip
                size = make_small(seen, self.limits, small)
                small = seen.feeds
                item = self._open.setdefault(
                    (seen.endpoint, seen.digest), Open(seen.signature, since=time.monotonic())
                )
                item.parts.append(seen)
                item.rows += len(next(iter(seen.feeds.values())))
                item.bytes += size
                self._held += size
                if item.rows >= self.limits.file_rows:
                    self._save((seen.endpoint, seen.digest))
            self._taken += len(drawn.chosen)
            self._taken_bytes += drawn.size

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
        columns = columns_of(item)
        table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
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
