"""What is counted per endpoint version: requests, errors by code, latency, queueing and batch sizes."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from modelworks.serving.work import Work

LATENCY_BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
ROW_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0)


class Histogram:
    """Counts of values by upper bound, as Prometheus defines them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Add the values another one of the same bounds counted."""
        for index, count in enumerate(other.counts):
            if count:
                self.counts[index] += count
        self.total += other.total

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """Return the value below which ``share`` of the counts lie, interpolated within its bucket."""
        wanted = share * self.count
        seen = 0.0
        for index, count in enumerate(self.counts):
            if count and seen + count >= wanted:
                low = self.bounds[index - 1] if index else 0.0
                high = self.bounds[index] if index < len(self.bounds) else self.bounds[-1]
                return low + (high - low) * (wanted - seen) / count
            seen += count
        return 0.0

    def to_json(self) -> dict[str, Any]:
        return {"bounds": list(self.bounds), "counts": list(self.counts), "total": self.total}


@dataclass(slots=True)
class VersionCounts:
    """Counts of one version of one endpoint since the start.

    Attributes:
        requests: Requests answered, errors included.
        rows: Rows answered.
        errors: Error code -> count.
        latency: Seconds from admission to answer.
        queue: Seconds from admission to the start of the run.
        batch: Rows of the run a request was answered from.
        shadow_runs: Mirrored requests that were answered by this version.
        shadow_errors: Mirrored requests this version failed on.
        shadow_dropped: Mirrored requests that were dropped because too many were under way.
        shadow_different: Mirrored answers that differ from the champion's.
    """

    requests: int = 0
    rows: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    latency: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    batch: Histogram = field(default_factory=lambda: Histogram(ROW_BOUNDS))
    shadow_runs: int = 0
    shadow_errors: int = 0
    shadow_dropped: int = 0
    shadow_different: int = 0

    def answered(self, work: Work, latency: float) -> None:
        """Count a request that was answered ``latency`` seconds after its admission."""
        self.requests += 1
        self.rows += work.rows
        # As in ``Histogram.observe``, without three calls a request.
        waited, rows = work.started - work.enqueued, work.batch_rows
        histogram = self.latency
        histogram.counts[bisect_left(LATENCY_BOUNDS, latency)] += 1
        histogram.total += latency
        histogram = self.queue
        histogram.counts[bisect_left(LATENCY_BOUNDS, waited)] += 1
        histogram.total += waited
        histogram = self.batch
        histogram.counts[bisect_left(ROW_BOUNDS, rows)] += 1
        histogram.total += rows

    def add(self, other: VersionCounts) -> None:
        """Add the requests another one counted."""
        self.requests += other.requests
        self.rows += other.rows
        self.latency.add(other.latency)
        self.queue.add(other.queue)
        self.batch.add(other.batch)

    def failed(self, code: str) -> None:
        """Count an error."""
        self.requests += 1
        self.errors[code] = self.errors.get(code, 0) + 1
