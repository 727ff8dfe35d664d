"""What differs between two packages, as data and as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.packaging.inspection import GraphLimits, inspect_bytes
from modelworks.packaging.package import Package


def diff(one: Package, other: Package) -> dict[str, Any]:
    """Compare two packages.

    Returns:
        ``{same, metrics: [{name, one, other, overlap}], inputs: {added, removed, retyped}, classes: {added, removed},
        dataset, size_bytes, latency_ms_p99, cpu_s: {one, other}, files: {name: equal}, operators: {name: [n, m]}}``.
        ``overlap`` says whether the two intervals overlap; it is no test of the difference.
    """
    left, right = one.manifest, other.manifest
    return {
        "one": {"name": left.name, "digest": one.digest, "created": left.created},
        "other": {"name": right.name, "digest": other.digest, "created": right.created},
        "same": one.digest == other.digest,
        "metrics": _metrics(left.metrics, right.metrics),
        "inputs": _inputs(one, other),
        "classes": _sets(one.signature.classes, other.signature.classes),
        "dataset": _pair(left.dataset.get("digest"), right.dataset.get("digest")),
        "verdict": _pair(left.verdict.get("kind"), right.verdict.get("kind")),
        "recipe": _pair(left.recipe, right.recipe),
        "size_bytes": _pair(len(one.onnx), len(other.onnx)),
        "latency_ms_p99": _pair(_p99(left.measured), _p99(right.measured)),
        "cpu_s": _pair(left.cost.get("cpu_s"), right.cost.get("cpu_s")),
        "files": {
            name: left.files.get(name) == right.files.get(name) for name in {**left.files, **right.files}
        },
        "operators": _operators(one.onnx, other.onnx),
    }


def diff_text(data: Mapping[str, Any]) -> str:
    """Render ``diff`` for a terminal; only what differs."""
    lines = [f"one    {data['one']['name']}  {data['one']['digest'][:12]}  {data['one']['created']}"]
    lines.append(
        f"other  {data['other']['name']}  {data['other']['digest'][:12]}  {data['other']['created']}"
    )
    if data["same"]:
        return "\n".join([*lines, "The two are the same package."])
    for metric in data["metrics"]:
        overlap = "intervals overlap" if metric["overlap"] else "intervals do not overlap"
        both = metric["one"] and metric["other"]
        lines.append(
            f"{metric['name']}: {_measure(metric['one'])} -> {_measure(metric['other'])}"
            + (f"  ({overlap})" if both else "")
        )
    for name in ("dataset", "verdict", "size_bytes", "latency_ms_p99", "cpu_s"):
        if not data[name]["equal"]:
            lines.append(f"{name}: {data[name]['one']} -> {data[name]['other']}")
    for name in ("inputs", "classes"):
        for how, items in data[name].items():
            if items:
                lines.append(f"{name} {how}: {', '.join(map(str, items))}")
    for name, (before, after) in data["operators"].items():
        lines.append(f"operator {name}: {before} -> {after}")
    changed = [name for name, equal in data["files"].items() if not equal]
    return "\n".join([*lines, "files that differ: " + (", ".join(changed) or "none")])


def _metrics(left: Any, right: Any) -> list[dict[str, Any]]:
    one = {item["name"]: item for item in left}
    other = {item["name"]: item for item in right}
    rows = []
    for name in [*one, *(name for name in other if name not in one)]:
        a, b = one.get(name), other.get(name)
        overlap = bool(a and b and a["low"] <= b["high"] and b["low"] <= a["high"])
        rows.append({"name": name, "one": a, "other": b, "overlap": overlap})
    return rows


def _inputs(one: Package, other: Package) -> dict[str, list[str]]:
    left = {name: tensor.datatype for tensor in one.signature.inputs for name in tensor.columns}
    right = {name: tensor.datatype for tensor in other.signature.inputs for name in tensor.columns}
    retyped = sorted(name for name in set(left) & set(right) if left[name] != right[name])
    return {**_sets(tuple(left), tuple(right)), "retyped": retyped}


def _operators(one: bytes, other: bytes) -> dict[str, list[int]]:
    left = inspect_bytes(one, GraphLimits())["operators"]
    right = inspect_bytes(other, GraphLimits())["operators"]
    names = sorted(set(left) | set(right))
    return {
        name: [left.get(name, 0), right.get(name, 0)] for name in names if left.get(name) != right.get(name)
    }


def _sets(one: tuple[str, ...], other: tuple[str, ...]) -> dict[str, list[str]]:
    return {
        "added": [name for name in other if name not in set(one)],
        "removed": [name for name in one if name not in set(other)],
    }


def _pair(one: Any, other: Any) -> dict[str, Any]:
    return {"one": one, "other": other, "equal": one == other}


def _p99(measured: Mapping[str, Any]) -> Any:
    latency = measured.get("latency_ms")
    return latency.get("p99") if isinstance(latency, Mapping) else None


def _measure(item: Mapping[str, Any] | None) -> str:
    return "absent" if item is None else f"{item['value']:.4g} [{item['low']:.4g}, {item['high']:.4g}]"
