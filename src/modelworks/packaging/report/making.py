"""The sections of a model report that show what it was made from, how, and for how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelworks.packaging.report import page, plots
from modelworks.packaging.report.figures import (
    duration,
    entries,
    escaped,
    is_number,
    mapping,
    money,
    number,
    percent,
    plural,
    records,
    rough,
    size_of,
    whole,
    words,
)

MOST_COLUMNS = 200


def members_section(fit: Mapping[str, Any], kind: str) -> str:
    """Return the leaderboard of what was tried and why the shipped model was chosen."""
    members = records(fit, "members")
    if not members:
        return ""
    heaviest = max((item["weight"] for item in members if is_number(item.get("weight"))), default=1.0) or 1.0
    rows, marks = [], []
    for item in sorted(members, key=lambda found: _or_large(found.get("oof_loss"))):
        kept = bool(item.get("kept"))
        weight = item.get("weight")
        bar = (
            plots.share_bar(weight / heaviest, f"weight {percent(weight, 0)}")
            if is_number(weight) and weight > 0
            else ""
        )
        rows.append(
            [
                escaped(item.get("name", "")), number(item.get("oof_loss")), duration(item.get("cpu_s")),
                f"{percent(weight, 0)}" if is_number(weight) and weight > 0 else "", bar,
                page.pill("in the model", "kept") if kept else page.pill("left out"), escaped(item.get("why", "")),
            ]
        )  # fmt: skip
        marks.append("" if kept else "muted")
    where = "at rolling origins" if kind == "forecast" else "out of fold"
    heads = [
        ("Candidate", "name"), (f"Loss, {where}", "figure"), ("CPU time", "figure"), ("Weight", "figure"), ("", ""),
        ("", "nowrap"), ("Why", "sentence"),
    ]  # fmt: skip
    facts = [
        ("Chosen", escaped(fit.get("chosen", ""))),
        ("Why", escaped(fit.get("why", ""))),
        ("More than a head", escaped(mapping(fit, "escalation").get("why", ""))),
        (f"Its loss, {where}", number(fit["oof_loss"]) if is_number(fit.get("oof_loss")) else ""),
        ("Folds", number(fit["folds"]) if whole(fit, "folds") else ""),
        (
            "Decision threshold",
            rough(fit["threshold"]) if kind == "binary" and is_number(fit.get("threshold")) else "",
        ),
    ]
    return page.definitions(facts) + page.table(heads, rows, marks)


def guard_section(findings: Sequence[Any]) -> str:
    """Return what the guard found, the gravest first."""
    order = {"error": 0, "warning": 1, "info": 2}
    items = sorted(
        (item for item in findings if isinstance(item, Mapping)),
        key=lambda item: order.get(str(item.get("severity")), 3),
    )
    lines = []
    for item in items:
        barred = ' <span class="pill bad">column barred from the model</span>' if item.get("exclude") else ""
        lines.append(
            f"<li><span>{page.pill(item.get('severity', 'info'))}</span>"
            f"<span>{escaped(item.get('message', ''))}{barred}</span></li>"
        )
    return f'<ul class="list">{"".join(lines)}</ul>' if lines else ""


def columns_section(profile: Mapping[str, Any], used: Sequence[Any], targets: Sequence[str]) -> str:
    """Return one line per column of the table: kind, missing, distribution, and whether the model reads it."""
    columns = records(profile, "columns")
    if not columns:
        return ""
    total = whole(profile, "sampled") or whole(profile, "rows")
    names = {str(item.get("name")) for item in used if isinstance(item, Mapping)}
    rows, marks = [], []
    for item in columns[:MOST_COLUMNS]:
        name = str(item.get("name", ""))
        role = "target" if name in targets else "read" if name in names else "not read"
        missing = item.get("missing_share")
        if not is_number(missing) and is_number(item.get("missing")) and total:
            missing = item["missing"] / total
        top = entries(item, "top")
        rows.append(
            [
                escaped(item.get("name", "")), escaped(str(item.get("kind", "")).replace("_", " ")),
                percent(missing) if is_number(missing) and missing > 0 else "none", number(item.get("distinct")),
                plots.spark(mapping(item, "histogram"), top, total), _summary(item),
                page.pill(role, "passed" if role == "target" else None), escaped(item.get("reason", "")),
            ]
        )  # fmt: skip
        marks.append("primary" if role == "target" else "muted" if role == "not read" and names else "")
    heads = [
        ("Column", "name"), ("Kind", "nowrap"), ("Missing", "figure"), ("Distinct", "figure"), ("Distribution", ""),
        ("Values", "sentence"), ("Role", "nowrap"), ("Why this kind", "sentence"),
    ]  # fmt: skip
    left = len(columns) - MOST_COLUMNS
    sampled = (
        f" Shapes are of {plural(whole(profile, 'sampled'), 'row')} drawn evenly."
        if whole(profile, "sampled")
        else ""
    )
    said = page.note(f"{plural(len(columns), 'column')}, {plural(whole(profile, 'rows'), 'row')}.{sampled}")
    return (
        said
        + page.table(heads, rows, marks)
        + (page.note(f"{left} more columns are in profile.json.") if left > 0 else "")
    )


def cost_section(cost: Mapping[str, Any]) -> str:
    """Return the bill: total, parts, and what else it took."""
    facts = cost_facts(cost)
    parts = [item for item in records(cost, "parts") if is_number(item.get("cpu_s"))]
    html = page.definitions(facts)
    if parts:
        ordered = sorted(parts, key=lambda item: -item["cpu_s"])
        bar = plots.stacked_bar(
            [(str(item.get("name", "")), item["cpu_s"], duration(item["cpu_s"])) for item in ordered],
            "CPU time by part",
        )
        whole = sum(item["cpu_s"] for item in parts) or 1.0
        rows = [
            [
                page.swatch(f"p{index % 8}") + escaped(item.get("name", "")), duration(item["cpu_s"]),
                percent(item["cpu_s"] / whole), _money(item, cost),
                "shared with other tasks" if item.get("shared") else "",
            ]
            for index, item in enumerate(ordered)
        ]  # fmt: skip
        heads = [
            ("Part", "name"),
            ("CPU time", "figure"),
            ("Share", "figure"),
            ("Money", "figure"),
            ("", "nowrap"),
        ]
        if not any(row[3] for row in rows):
            heads, rows = heads[:3] + heads[4:], [row[:3] + row[4:] for row in rows]
        html += page.figure(bar, "CPU time by part.") + page.table(heads, rows)
    return html


def cost_facts(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the ledger's figures that are there, as names and HTML values."""
    energy = cost.get("energy_j")
    source = cost.get("energy_source")
    total = cost.get("total", cost.get("money"))
    return [
        ("Total", money(total, cost.get("currency", "")) if is_number(total) else ""),
        ("CPU time", duration(cost["cpu_s"]) if is_number(cost.get("cpu_s")) else ""),
        ("Elapsed", duration(cost["wall_s"]) if is_number(cost.get("wall_s")) else ""),
        ("GPU time", duration(cost["gpu_s"]) if is_number(cost.get("gpu_s")) and cost["gpu_s"] > 0 else ""),
        (
            "Energy",
            f"{number(energy, 3)}\u202fJ ({escaped(source)})" if is_number(energy) and energy > 0 else "",
        ),
        (
            "Peak memory",
            f"{number(cost['peak_mb'], 3)}\u202fMB"
            if is_number(cost.get("peak_mb")) and cost["peak_mb"] > 0
            else "",
        ),
        (
            "People's time",
            duration(cost["human_s"]) if is_number(cost.get("human_s")) and cost["human_s"] > 0 else "",
        ),
    ]


def use_section(signature: Mapping[str, Any], measured: Mapping[str, Any], items: Any) -> str:
    """Return how to use the model: commands, inputs and outputs, speed."""
    rows = []
    for way in ("inputs", "outputs"):
        for tensor in records(signature, way):
            shape = " \u00d7 ".join(
                "rows" if axis == -1 and index == 0 else str(axis)
                for index, axis in enumerate(entries(tensor, "shape"))
            )
            columns = ", ".join(str(name) for name in entries(tensor, "columns")[:30])
            more = " \u2026" if len(entries(tensor, "columns")) > 30 else ""
            rows.append(
                [
                    way[:-1],
                    f"<code>{escaped(tensor.get('name', ''))}</code>",
                    escaped(tensor.get("datatype", "")),
                    escaped(shape),
                    escaped(columns + more),
                ]
            )
    heads = [
        ("", "nowrap"),
        ("Tensor", "nowrap"),
        ("Type", "nowrap"),
        ("Shape", "nowrap"),
        ("Columns", "sentence"),
    ]
    return (
        page.commands(items) + (page.table(heads, rows) if rows else "") + page.definitions(_speed(measured))
    )


def lineage_section(lineage: Mapping[str, Any], created: str) -> str:
    """Return what it was made from: digests, split, steps."""
    facts: list[tuple[str, str]] = [("Made", escaped(created))] if created else []
    for name, value in lineage.items():
        if isinstance(value, Mapping):
            inner = "<br>".join(
                f"{escaped(words(key))}: {_shown(item)}"
                for key, item in value.items()
                if not isinstance(item, (dict, list))
            )
            facts.append((words(name), inner))
        elif isinstance(value, (str, int, float)):
            facts.append((words(name), _shown(value)))
    return page.definitions(facts)


def _speed(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    latency = mapping(measured, "latency_ms")
    rate = ""
    if is_number(latency.get("p50")) and is_number(latency.get("p99")):
        usual, worst = duration(latency["p50"] / 1e3), duration(latency["p99"] / 1e3)
        rate = f"{usual} (median), {worst} (99th percentile), one thread"
    return [
        ("One row takes", rate),
        (
            "Size of the graph",
            size_of(measured["size_bytes"]) if is_number(measured.get("size_bytes")) else "",
        ),
    ]


def _money(part: Mapping[str, Any], cost: Mapping[str, Any]) -> str:
    amount = part.get("money")
    return money(amount, cost.get("currency", "")) if is_number(amount) else ""


def _summary(item: Mapping[str, Any]) -> str:
    quantiles = mapping(item, "quantiles")
    if is_number(item.get("min")) and is_number(item.get("max")):
        middle = f", median {rough(quantiles['0.5'])}" if is_number(quantiles.get("0.5")) else ""
        return escaped(f"{rough(item['min'])} to {rough(item['max'])}{middle}")
    if item.get("first"):
        return escaped(f"{item['first']} to {item.get('last', '')}")
    top = entries(item, "top")
    if top:
        names = [plots.cut(entry[0], 24) for entry in top[:4] if isinstance(entry, (list, tuple)) and entry]
        return escaped(", ".join(names) + (", \u2026" if len(top) > 4 else ""))
    examples = entries(item, "examples")
    return escaped("such as " + "; ".join(plots.cut(text, 40) for text in examples[:2])) if examples else ""


def _shown(value: Any) -> str:
    text = str(value)
    return f"<code>{escaped(text)}</code>" if len(text) >= 32 and " " not in text else escaped(text)


def _or_large(value: Any) -> float:
    return float(value) if is_number(value) else float("inf")
