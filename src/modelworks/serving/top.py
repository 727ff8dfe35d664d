"""The lines of ``mw top``: two readings of a server's status turned into rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelworks.serving.counters import Histogram


@dataclass(frozen=True, kw_only=True)
class TopLine:
    """One version of one endpoint between two readings.

    Attributes:
        name: Endpoint.
        version: Number, with ``*`` for the champion, ``~`` for a canary, ``=`` for a shadow.
        state: ``ready``, ``cold``, ``loading``, ``quarantined``, ...
        requests_per_s: Rate of requests.
        errors_per_s: Rate of errors.
        p50_ms, p99_ms: Latency of the requests between the readings (0 if there were none).
        batch: Mean rows per run.
        waiting: Rows in the queue.
        memory_mb: Measured memory.
        cause: Why it is not ready.
    """

    name: str
    version: str
    state: str
    requests_per_s: float
    errors_per_s: float
    p50_ms: float
    p99_ms: float
    batch: float
    waiting: int
    memory_mb: float
    cause: str = ""


def top_lines(before: dict[str, Any], after: dict[str, Any]) -> list[TopLine]:
    """Return the lines for two readings of ``Client.status()``, busiest first.

    Give the same reading twice for a first picture without rates.
    """
    elapsed = max(1e-9, float(after["wall"]) - float(before["wall"]))
    known = {
        (endpoint["name"], version["number"]): version
        for endpoint in before["endpoints"]
        for version in endpoint["versions"]
    }
    lines = [
        _line(endpoint, version, known.get((endpoint["name"], version["number"])), elapsed)
        for endpoint in after["endpoints"]
        for version in endpoint["versions"]
    ]
    return sorted(lines, key=lambda line: (-line.requests_per_s, line.name, line.version))


def _line(
    endpoint: dict[str, Any], now: dict[str, Any], then: dict[str, Any] | None, elapsed: float
) -> TopLine:
    mark = ""
    if endpoint["champion"] == now["number"]:
        mark = "*"
    elif endpoint["canary"] and endpoint["canary"]["number"] == now["number"]:
        mark = "~"
    elif endpoint["shadow"] == now["number"]:
        mark = "="
    latency = _difference(now["latency"], then["latency"] if then else None)
    batch = _difference(now["batch"], then["batch"] if then else None)
    errors = sum(now["errors"].values()) - (sum(then["errors"].values()) if then else 0)
    return TopLine(
        name=endpoint["name"],
        version=now["number"] + mark,
        state=now["state"],
        requests_per_s=(now["requests"] - (then["requests"] if then else 0)) / elapsed if then else 0.0,
        errors_per_s=errors / elapsed if then else 0.0,
        p50_ms=latency.quantile(0.5) * 1e3,
        p99_ms=latency.quantile(0.99) * 1e3,
        batch=batch.total / batch.count if batch.count else 0.0,
        waiting=now["waiting_rows"],
        memory_mb=now["memory_mb"] or 0.0,
        cause=now["cause"],
    )


def _difference(now: dict[str, Any], then: dict[str, Any] | None) -> Histogram:
    found = Histogram(tuple(now["bounds"]))
    found.counts = list(now["counts"])
    found.total = now["total"]
    if then is not None:
        found.counts = [one - other for one, other in zip(now["counts"], then["counts"], strict=True)]
        found.total -= then["total"]
    return found
