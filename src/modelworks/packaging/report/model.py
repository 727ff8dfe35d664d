"""The report of one model: how it ended, how good it is, how it errs, what it was made from and for how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.packaging.report import making, page, quality, samples
from modelworks.packaging.report.figures import (
    duration,
    entries,
    escaped,
    is_number,
    mapping,
    metric_name,
    moment,
    money,
    number,
    plural,
    records,
    size_of,
    whole,
)
from modelworks.packaging.sources import public_name, without_secrets

OWN_STEPS = (
    "Steps made for this model alone. What tasks share (reading the table; for samples embedding and heads) is on the "
    "bill of the order, with this task's share of it: mw cost."
)


def render_model_report(data: Mapping[str, Any]) -> str:
    """Return the static HTML report of one model; see ``packaging.report`` for the data."""
    data = without_secrets(data)
    task, evaluation, fit = mapping(data, "task"), mapping(data, "evaluation"), mapping(data, "fit")
    bill = making.cost_section(mapping(data, "cost"))
    bill += page.note(OWN_STEPS) if bill else ""
    title = str(data.get("title") or task.get("name") or "Model")
    verdict = mapping(data, "verdict")
    columns = entries(data, "columns")
    targets = _targets(task)
    created = str(data.get("created", ""))
    looked_at = mapping(data, "samples")
    sections = [
        ("gate", "Gate", quality.gate_section(verdict)),
        ("measures", "How good it is", quality.measures_section(evaluation)),
        ("comparison", "Against simpler models", quality.comparison_section(evaluation)),
        ("shape", "How it errs", quality.shape_section(evaluation, fit, ", ".join(targets))),
        *samples.sample_sections(looked_at),
        ("labels", "Label by label", quality.labels_section(evaluation)),
        ("slices", "Where it is weaker", quality.slices_section(evaluation)),
        ("importance", "What it leans on", quality.importance_section(evaluation)),
        ("guard", "What the guard found", making.guard_section(entries(data, "guard"))),
        ("candidates", "What was tried", making.members_section(fit, str(evaluation.get("kind", "")))),
        ("columns", "The table", making.columns_section(mapping(data, "profile"), columns, targets)),
        ("cost", "What it cost", bill),
        (
            "use",
            "How to use it",
            making.use_section(mapping(data, "signature"), mapping(data, "measured"), data.get("commands")),
        ),
        ("lineage", "What it was made from", making.lineage_section(mapping(data, "lineage"), created)),
    ]
    foot = (
        "Made by Modelworks. This file loads and runs nothing; every score was computed by the shipped graph."
    )
    return page.page(
        f"{title} \u2013 model report",
        _head(title, data, task, targets),
        sections,
        foot,
        pictures=samples.has_pictures(looked_at),
    )


def _head(title: str, data: Mapping[str, Any], task: Mapping[str, Any], targets: list[str]) -> str:
    verdict, evaluation = mapping(data, "verdict"), mapping(data, "evaluation")
    kind = task.get("kind") or evaluation.get("kind") or ""
    what = f"Predicts {', '.join(targets)}" if targets else "Model report"
    source = public_name(
        str(mapping(mapping(data, "lineage"), "dataset").get("name") or task.get("data") or "")
    )
    kicker = " \u00b7 ".join(str(part) for part in (what, kind, source, moment(data.get("created"))) if part)
    banner = ""
    if verdict:
        needed = [
            (str(name), int(count)) for name, count in mapping(verdict, "needed").items() if is_number(count)
        ]
        banner = page.verdict_banner(
            str(verdict.get("kind")), str(verdict.get("cause", "")), str(verdict.get("fix") or ""), needed
        )
    return (
        f'<header class="top"><p class="kicker">{escaped(kicker)}</p><h1>{escaped(title)}</h1></header>{banner}'
        + page.tiles(_tiles(data, evaluation))
    )


def _tiles(data: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    measured, cost, profile = mapping(data, "measured"), mapping(data, "cost"), mapping(data, "profile")
    own = next(
        (item for item in records(evaluation, "measures") if item.get("name") == evaluation.get("metric")), {}
    )
    latency = mapping(measured, "latency_ms")
    total = cost.get("total", cost.get("money"))
    found = []
    if is_number(own.get("value")):
        between = f"{number(own.get('low'))} to {number(own.get('high'))}, 95\u202f% interval"
        found.append((metric_name(own.get("name")), number(own["value"]), between))
    rows, of = whole(evaluation, "rows"), whole(profile, "rows")
    if rows:
        found.append(("Judged on", plural(rows, "row"), f"sealed, of {of:,}" if of else "sealed"))
    if is_number(latency.get("p50")):
        found.append(
            (
                "One row",
                duration(latency["p50"] / 1e3),
                f"99th percentile {duration(latency['p99'] / 1e3)}" if is_number(latency.get("p99")) else "",
            )
        )
    if is_number(measured.get("size_bytes")):
        found.append(("Graph", size_of(measured["size_bytes"]), "one ONNX file, raw inputs"))
    if is_number(cost.get("cpu_s")):
        found.append(
            (
                "Cost",
                duration(cost["cpu_s"]),
                "of CPU, its own steps"
                + (f", {money(total, cost.get('currency', ''))}" if is_number(total) else ""),
            )
        )
    return found


def _targets(task: Mapping[str, Any]) -> list[str]:
    target = task.get("target")
    if isinstance(target, str):
        return [target]
    return [str(item) for item in target] if isinstance(target, (list, tuple)) else []
