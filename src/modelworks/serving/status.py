"""The state of a server as plain data: for ``/v1/models``, ``/v1/status`` and ``mw top``."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from modelworks.serving.dataplane import DataPlane
from modelworks.serving.memory import resident_bytes
from modelworks.serving.routing import Route, Target

_STARTED = time.time()


def model_card(route: Route, *, short: bool) -> dict[str, Any]:
    """Return what a client needs to know of an endpoint."""
    endpoint = route.state
    card: dict[str, Any] = {
        "name": endpoint.name,
        "champion": endpoint.champion,
        "canary": endpoint.canary.to_json() if endpoint.canary else None,
        "shadow": endpoint.shadow,
        "state": route.champion.resident.state.value,
    }
    if route.champion.resident.cause:
        card["cause"] = route.champion.resident.cause
    if short:
        return card
    signature = route.champion.signature
    card["versions"] = [
        {
            "number": number,
            "digest": target.digest,
            "state": target.resident.state.value,
            "device": target.resident.device,
            "run_threads": target.resident.run_threads,
        }
        for number, target in route.targets.items()
    ]
    card["inputs"] = [tensor.to_json() for tensor in signature.inputs]
    card["outputs"] = [tensor.to_json() for tensor in signature.outputs]
    card["classes"] = list(signature.classes)
    card["settings"] = dict(endpoint.settings)
    return card


def status(plane: DataPlane, *, doors: dict[str, dict[str, int]] | None = None) -> dict[str, Any]:
    """Return the whole state: process, memory, and every version with its counts.

    Args:
        plane: The data plane.
        doors: Per door its open connections, and by cause those it turned away.
    """
    doors = doors or {}
    plane.fold()
    residency = plane.residency
    return {
        "wall": time.time(),
        "started": _STARTED,
        "pid": os.getpid(),
        "draining": plane.draining,
        "in_flight": plane.in_flight,
        "connections": sum(door["open"] for door in doors.values()),
        "doors": doors,
        "threads": threading.active_count(),
        "resident_mb": round(resident_bytes() / 2**20, 1),
        "models": {
            "known": len(residency.residents),
            "loaded": sum(1 for item in residency.residents.values() if item.lane is not None),
            "used_mb": round(residency.room.used_bytes / 2**20, 2),
            "cap_mb": round(residency.room.cap_bytes / 2**20, 2),
            "loads": residency.counts.loads,
            "load_failures": residency.counts.load_failures,
            "evictions": residency.counts.evictions,
        },
        "endpoints": [
            {
                "name": route.state.name,
                "champion": route.state.champion,
                "canary": route.state.canary.to_json() if route.state.canary else None,
                "shadow": route.state.shadow,
                "versions": [version_status(target) for target in route.targets.values()],
            }
            for _, route in sorted(plane.routes.items())
        ],
    }


def version_status(target: Target) -> dict[str, Any]:
    """Return the state and the counts of one version."""
    counts = target.counts
    resident = target.resident
    lane = resident.lane
    return {
        "number": target.number,
        "digest": target.digest,
        "state": resident.state.value,
        "cause": resident.cause,
        "memory_mb": round(resident.memory_bytes / 2**20, 3) if resident.measured else None,
        "device": resident.device,
        "run_threads": resident.run_threads,
        "device_note": resident.device_note,
        "shared_mb": round(resident.shared_bytes / 2**20, 3),
        "load_ms": round(resident.load_s * 1e3, 2) if resident.loads else None,
        "loads": resident.loads,
        "evictions": resident.evictions,
        "waiting_rows": lane.waiting_rows if lane else resident.backlog_rows,
        "requests": counts.requests,
        "rows": counts.rows,
        "errors": dict(counts.errors),
        "latency": counts.latency.to_json(),
        "queue": counts.queue.to_json(),
        "batch": counts.batch.to_json(),
        "curve_ms": lane.curve.to_json() if lane else {},
        "best_rows": lane.curve.best_rows if lane else None,
        "shadow": {
            "runs": counts.shadow_runs,
            "errors": counts.shadow_errors,
            "dropped": counts.shadow_dropped,
            "different": counts.shadow_different,
        },
    }
