"""Traces over OTLP/HTTP with JSON encoding (opentelemetry-proto 1.x), written by hand: no library is needed."""

from __future__ import annotations

import http.client
import json
import logging
import random
import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from modelworks.core.errors import ModelworksError, UsageError
from modelworks.serving.routing import Target
from modelworks.serving.work import Work

_log = logging.getLogger("modelworks.serving")
_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SERVER, _INTERNAL, _FAILED = 2, 1, 2


@dataclass(frozen=True, slots=True)
class Parent:
    """A W3C ``traceparent``: the caller's trace and span, and whether it is sampled."""

    trace: str
    span: str
    sampled: bool

    @staticmethod
    def of(header: str | None) -> Parent | None:
        """Read a ``traceparent`` header; ``None`` for one that is absent or malformed."""
        match = _PARENT.fullmatch(header or "")
        if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
            return None
        return Parent(match[1], match[2], bool(int(match[3], 16) & 1))


class Tracer:
    """Turns settled works into spans ``infer`` > ``queue``, ``run`` and posts them in batches from a thread.

    Args:
        endpoint: Base address of the collector, such as ``http://127.0.0.1:4318``.
        share: Share of requests without a sampled parent that are traced.
        waiting: Spans that may wait; more are dropped and counted.
        flush_s: Longest time a span waits.
    """

    def __init__(self, endpoint: str, *, share: float, waiting: int = 4096, flush_s: float = 2.0) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"'{endpoint}' is not the address of a collector.", code="MW1322")
        self.dropped = 0
        self.sent = 0
        self._parts = parts
        self._share = share
        self._most = waiting
        self._flush_s = flush_s
        self._random = random.Random()  # noqa: S311 - ids, not secrets
        self._waiting: deque[dict[str, Any]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._post, name="serving-trace", daemon=True)
        self._thread.start()

    def offer(self, target: Target, work: Work, error: Exception | None, latency_s: float) -> None:
        """Trace a settled work if it is sampled; never waits."""
        parent = Parent.of(work.traceparent)
        if not (parent.sampled if parent is not None else self._random.random() < self._share):
            return
        if len(self._waiting) >= self._most:
            self.dropped += 3
            return
        trace = parent.trace if parent is not None else f"{self._random.getrandbits(128) or 1:032x}"
        span = self._span_id()
        end = time.time_ns()
        begin = end - int(latency_s * 1e9)
        started = min(end, begin + int(max(0.0, work.started - work.enqueued) * 1e9))
        attributes = {
            "model": target.endpoint,
            "version": target.number,
            "digest": target.digest,
            "rows": work.rows,
            "batch_rows": work.batch_rows,
        }
        made = _span(trace, span, parent.span if parent else "", "infer", _SERVER, begin, end, attributes)
        if error is not None:
            code = error.error_code if isinstance(error, ModelworksError) else "MW5000"
            made["status"] = {"code": _FAILED, "message": code}
        self._waiting.append(made)
        self._waiting.append(_span(trace, self._span_id(), span, "queue", _INTERNAL, begin, started, {}))
        self._waiting.append(_span(trace, self._span_id(), span, "run", _INTERNAL, started, end, {}))

    def _span_id(self) -> str:
        return f"{self._random.getrandbits(64) or 1:016x}"

    def close(self) -> None:
        """Send what waits and stop."""
        self._closing = True
        self._wake.set()
        self._thread.join(10.0)

    def _post(self) -> None:
        while not self._closing:
            self._wake.wait(self._flush_s)
            self._send()
        self._send()

    def _send(self) -> None:
        spans: list[dict[str, Any]] = []
        while self._waiting and len(spans) < self._most:
            spans.append(self._waiting.popleft())
        if not spans:
            return
        resource = {"attributes": _attributes({"service.name": "modelworks-serving"})}
        scopes = [{"scope": {"name": "modelworks.serving"}, "spans": spans}]
        body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}).encode()
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(
            self._parts.hostname or "", self._parts.port or (443 if secure else 4318), timeout=5.0
        )
        try:
            path = self._parts.path.rstrip("/") + "/v1/traces"
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            if connection.getresponse().status >= 300:
                raise http.client.HTTPException("refused")
            self.sent += len(spans)
        except (OSError, http.client.HTTPException):
            self.dropped += len(spans)
            _log.warning("%d spans were not taken by the collector", len(spans))
        finally:
            connection.close()


def _span(
    trace: str, span: str, parent: str, name: str, kind: int, begin: int, end: int, attributes: dict[str, Any]
) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": span,
        "parentSpanId": parent,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(end),
        "attributes": _attributes(attributes),
    }


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
    ]
