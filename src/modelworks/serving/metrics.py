"""Prometheus text exposition of a server's state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

_LATENCY = "modelworks_request_seconds"
_HELP = {
    "modelworks_requests_total": ("counter", "Requests answered, errors included."),
    "modelworks_rows_total": ("counter", "Rows answered."),
    "modelworks_errors_total": ("counter", "Requests that ended in an error, by code."),
    _LATENCY: ("histogram", "Seconds from admission to answer."),
    "modelworks_queue_seconds": ("histogram", "Seconds from admission to the start of the run."),
    "modelworks_batch_rows": ("histogram", "Rows of the run a request was answered from."),
    "modelworks_waiting_rows": ("gauge", "Rows that wait for a run or a load."),
    "modelworks_shadow_total": ("counter", "Mirrored requests, by how they ended."),
    "modelworks_model_memory_bytes": ("gauge", "Measured memory of a loaded model."),
    "modelworks_model_ready": (
        "gauge",
        "1 if a request for the version is taken without waiting for a load.",
    ),
    "modelworks_model_device": ("gauge", "1 for the device a loaded version runs on."),
    "modelworks_model_loads_total": ("counter", "Loads of the version."),
    "modelworks_model_evictions_total": ("counter", "Evictions of the version."),
    "modelworks_model_quarantined": ("gauge", "1 if the package is quarantined."),
    "modelworks_models_memory_bytes": ("gauge", "Measured memory of all loaded models."),
    "modelworks_models_memory_cap_bytes": ("gauge", "Cap of that memory."),
    "modelworks_load_failures_total": ("counter", "Loads that failed."),
    "modelworks_resident_bytes": ("gauge", "Resident memory of the process."),
    "modelworks_in_flight": ("gauge", "Requests under way."),
    "modelworks_connections": ("gauge", "Open connections, those in a TLS handshake included."),
    "modelworks_connections_refused_total": (
        "counter",
        "Connections that were not taken: too many, too many of one address, or a failed TLS handshake.",
    ),
    "modelworks_error_answers_total": (
        "counter",
        "Answers that are errors, by code; those no model was asked for (token, rate, path, form) included.",
    ),
    "modelworks_draining": ("gauge", "1 while the server shuts down."),
    "modelworks_start_time_seconds": ("gauge", "Start of the process, seconds since 1970."),
    "modelworks_observations_total": (
        "counter",
        "Requests offered to the observation log, by what became of them.",
    ),
}

Sample = tuple[str, dict[str, str], float]


def exposition(state: dict[str, Any]) -> bytes:
    """Render ``status.status(...)`` (and ``observations`` counts beside it) as Prometheus text, format 0.0.4."""
    grouped: dict[str, list[str]] = {}
    for name, labels, value in _samples(state):
        base = name
        for suffix in ("_bucket", "_sum", "_count"):
            if name.removesuffix(suffix) in _HELP and _HELP[name.removesuffix(suffix)][0] == "histogram":
                base = name.removesuffix(suffix)
        grouped.setdefault(base, []).append(f"{name}{_labels(labels)} {value:.10g}")
    lines = []
    for name, (kind, text) in _HELP.items():
        if name in grouped:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *grouped[name]]
    return ("\n".join(lines) + "\n").encode()


def _samples(state: dict[str, Any]) -> Iterator[Sample]:
    models = state["models"]
    yield "modelworks_models_memory_bytes", {}, models["used_mb"] * 2**20
    yield "modelworks_models_memory_cap_bytes", {}, models["cap_mb"] * 2**20
    yield "modelworks_load_failures_total", {}, models["load_failures"]
    yield "modelworks_resident_bytes", {}, state["resident_mb"] * 2**20
    yield "modelworks_in_flight", {}, state["in_flight"]
    for door, counts in state["doors"].items():
        for what, count in counts.items():
            if what == "open":
                yield "modelworks_connections", {"door": door}, count
            else:
                yield "modelworks_connections_refused_total", {"door": door, "cause": what}, count
    for door, codes in state["error_answers"].items():
        for code, count in codes.items():
            yield "modelworks_error_answers_total", {"door": door, "code": code}, count
    yield "modelworks_draining", {}, float(state["draining"])
    yield "modelworks_start_time_seconds", {}, state["started"]
    for outcome, count in state.get("observations", {}).items():
        yield "modelworks_observations_total", {"outcome": outcome}, count
    for endpoint in state["endpoints"]:
        for version in endpoint["versions"]:
            yield from _version(version, {"model": endpoint["name"], "version": version["number"]})


def _version(version: dict[str, Any], labels: dict[str, str]) -> Iterator[Sample]:
    yield "modelworks_requests_total", labels, version["requests"]
    yield "modelworks_rows_total", labels, version["rows"]
    for code, count in version["errors"].items():
        yield "modelworks_errors_total", {**labels, "code": code}, count
    yield "modelworks_waiting_rows", labels, version["waiting_rows"]
    for ended, count in version["shadow"].items():
        if count:
            yield "modelworks_shadow_total", {**labels, "ended": ended}, count
    if version["memory_mb"] is not None:
        yield "modelworks_model_memory_bytes", labels, version["memory_mb"] * 2**20
    yield "modelworks_model_ready", labels, float(version["state"] == "ready")
    if version["device"]:
        yield "modelworks_model_device", {**labels, "device": version["device"]}, 1.0
    yield "modelworks_model_quarantined", labels, float(version["state"] == "quarantined")
    yield "modelworks_model_loads_total", labels, version["loads"]
    yield "modelworks_model_evictions_total", labels, version["evictions"]
    for name, histogram in (
        (_LATENCY, version["latency"]),
        ("modelworks_queue_seconds", version["queue"]),
        ("modelworks_batch_rows", version["batch"]),
    ):
        if sum(histogram["counts"]):
            yield from _histogram(name, labels, histogram)


def _histogram(name: str, labels: dict[str, str], data: dict[str, Any]) -> Iterable[Sample]:
    seen = 0
    for bound, count in zip([*data["bounds"], None], data["counts"], strict=True):
        seen += count
        yield f"{name}_bucket", {**labels, "le": "+Inf" if bound is None else f"{bound:g}"}, seen
    yield f"{name}_sum", labels, data["total"]
    yield f"{name}_count", labels, seen


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
