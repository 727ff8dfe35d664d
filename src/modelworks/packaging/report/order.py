"""The report of an order: what was asked, how each line ended, what it cost, and whether the next one was cheaper."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from modelworks.packaging.report import making, page, plots
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
    percent,
    plural,
    records,
    size_of,
)
from modelworks.packaging.sources import without_secrets

FILLS = {
    "released": "fill good",
    "needs_evidence": "fill wait",
    "refused": "fill refused",
    "failed": "fill p7",
}
_RELATIVE = re.compile(r"(?!\.)[A-Za-z0-9._-]+(?:/(?!\.)[A-Za-z0-9._-]+)*")


def render_order_report(data: Mapping[str, Any]) -> str:
    """Return the static HTML report of an order; see ``packaging.report`` for the data."""
    data = without_secrets(data)
    lines, cost = records(data, "lines"), mapping(data, "cost")
    title = str(data.get("title") or mapping(data, "order").get("name") or "Order")
    kicker = " \u00b7 ".join(
        str(part) for part in (plural(len(lines), "task"), moment(data.get("created"))) if part
    )
    head = (
        f'<header class="top"><p class="kicker">{escaped(kicker)}</p><h1>{escaped(title)}</h1></header>'
        + page.tiles(_tiles(lines, cost))
        + _outcome_bar(lines)
    )
    sections = [
        ("lines", "Line by line", _lines(lines, str(cost.get("currency", "")))),
        ("causes", "What was not released, and why", _causes(lines)),
        ("learning", "What the next model costs", _learning(mapping(data, "learning"))),
        ("forecast", "Forecast and bill", _forecast(mapping(data, "forecast"), cost)),
        ("cost", "Where the time went", making.cost_section(cost)),
        ("notes", "Notes", "".join(page.note(str(item)) for item in entries(data, "notes"))),
        ("commands", "Next", page.commands(data.get("commands"))),
    ]
    foot = "Made by Modelworks. This file loads nothing and runs nothing; links lead to the model reports beside it."
    return page.page(f"{title} \u2013 order report", head, sections, foot)


def _tiles(lines: list[Mapping[str, Any]], cost: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    ends = Counter(str(line.get("verdict")) for line in lines)
    settled = ends["released"] + ends["refused"]
    total = cost.get("total", cost.get("money"))
    found = [
        (
            "Released",
            f"{ends['released']:,} of {len(lines):,}",
            f"{percent(settled / len(lines), 0)} released or refused with a cause" if lines else "",
        )
    ]
    if is_number(cost.get("cpu_s")):
        each = duration(cost["cpu_s"] / len(lines)) if lines else ""
        found.append(("CPU time", duration(cost["cpu_s"]), f"{each} a task"))
    if is_number(cost.get("wall_s")):
        found.append(("Work, elapsed", duration(cost["wall_s"]), "sum over all attempts"))
    if is_number(total):
        each = money(total / len(lines), cost.get("currency", "")) if lines else ""
        found.append(("Bill", money(total, cost.get("currency", "")), f"{each} a task"))
    if is_number(cost.get("energy_j")) and cost["energy_j"] > 0:
        found.append(
            ("Energy", f"{number(cost['energy_j'] / 3600, 3)}\u202fWh", str(cost.get("energy_source", "")))
        )
    return found


def _outcome_bar(lines: list[Mapping[str, Any]]) -> str:
    ends = Counter(str(line.get("verdict")) for line in lines)
    parts = [(kind, ends[kind]) for kind in FILLS if ends[kind]]
    if len(lines) < 2:
        return ""
    bar = plots.outcome_bar([(page.WORDS[kind], count, FILLS[kind]) for kind, count in parts])
    key = page.legend([(FILLS[kind], f"{page.WORDS[kind]}: {count:,}") for kind, count in parts])
    return f'<section class="card">{bar}{key}</section>'


def _lines(lines: list[Mapping[str, Any]], currency: str) -> str:
    if not lines:
        return ""
    heads = [
        ("Task", "name task"), ("Verdict", "nowrap"), ("Value", "figure"), ("", ""),
        ("95\u202f% interval", "nowrap"),
        ("CPU time", "figure"), ("Money", "figure"), ("Graph", "figure"), ("One row", "figure"),
    ]  # fmt: skip
    rows = []
    for line in lines:
        verdict = str(line.get("verdict", ""))
        known = all(is_number(line.get(name)) for name in ("value", "low", "high"))
        detail = " \u00b7 ".join(str(line[name]) for name in ("target", "kind", "data") if line.get(name))
        rows.append(
            [
                f'{_link(line)}<br><span class="sub">{escaped(detail)}</span>',
                page.pill(page.WORDS.get(verdict, verdict), verdict),
                _value(line), _strip(line) if known else "",
                f"{number(line['low'])} to {number(line['high'])}" if known else "",
                duration(line["cpu_s"]) if is_number(line.get("cpu_s")) else "",
                money(line["money"], currency) if is_number(line.get("money")) else "",
                size_of(line["size_bytes"]) if is_number(line.get("size_bytes")) else "",
                duration(line["latency_ms"] / 1e3) if is_number(line.get("latency_ms")) else "",
            ]
        )  # fmt: skip
    return page.table(heads, rows)


def _value(line: Mapping[str, Any]) -> str:
    value = line.get("value")
    if not is_number(value):
        return ""
    metric = (
        f'<br><span class="sub">{escaped(metric_name(line["metric"]))}</span>' if line.get("metric") else ""
    )
    return number(value) + metric


def _causes(lines: list[Mapping[str, Any]]) -> str:
    rows = [
        [
            escaped(line.get("task", "")),
            page.pill(page.WORDS.get(str(line.get("verdict")), ""), str(line.get("verdict"))),
            escaped(line.get("cause", "")), escaped(line.get("fix") or ""),
        ]
        for line in lines
        if line.get("verdict") != "released"
    ]  # fmt: skip
    heads = [
        ("Task", "name"),
        ("Verdict", "nowrap"),
        ("Cause", "sentence"),
        ("Cheapest next step", "sentence"),
    ]
    return page.table(heads, rows) if rows else ""


def _learning(learning: Mapping[str, Any]) -> str:
    points = [
        item
        for item in records(learning, "points")
        if is_number(item.get("n")) and is_number(item.get("cpu_s"))
    ]
    if len(points) < 3:
        return ""
    both = len({bool(item.get("shared", True)) for item in points}) == 2
    key = page.legend([("p0", "shared work on"), ("p2", "shared work off")]) if both else ""
    first, last = _halves([item["cpu_s"] for item in points if item.get("shared", True)])
    said = f"Median of the first half {duration(first)}, of the second half {duration(last)} of CPU a task."
    if is_number(learning.get("slope")):
        said += f" Slope {number(learning['slope'], 3)} CPU-seconds a task"
        if is_number(learning.get("low")) and is_number(learning.get("high")):
            said += f" ({number(learning['low'], 3)} to {number(learning['high'], 3)})"
        said += "."
    return page.figure(plots.learning_plot(points), said) + key


def _forecast(forecast: Mapping[str, Any], cost: Mapping[str, Any]) -> str:
    rows = []
    for name, shown in (("cpu_s", duration), ("wall_s", duration), ("money", money)):
        told, actual = forecast.get(name), cost.get(name, cost.get("total") if name == "money" else None)
        if name == "cpu_s" and is_number(forecast.get("actual")):
            actual = forecast["actual"]
        if not is_number(told):
            continue
        off = percent((told - actual) / actual, 0) if is_number(actual) and actual > 0 else ""
        label = {"cpu_s": "CPU time", "wall_s": "Elapsed", "money": "Money"}[name]
        between = ""
        if name == "cpu_s" and is_number(forecast.get("low")) and is_number(forecast.get("high")):
            between = f"{shown(forecast['low'])} to {shown(forecast['high'])}"
        rows.append([label, shown(told), between, shown(actual) if is_number(actual) else "", off])
    heads = [
        ("", "name"),
        ("Forecast", "figure"),
        ("Range", "nowrap"),
        ("Actual", "figure"),
        ("Forecast off by", "figure"),
    ]
    return page.table(heads, rows) if rows else ""


def _link(line: Mapping[str, Any]) -> str:
    name, target = escaped(line.get("task", "")), str(line.get("report") or "")
    return f'<a href="{target}">{name}</a>' if _RELATIVE.fullmatch(target) else name


def _strip(line: Mapping[str, Any]) -> str:
    value, low, high = line["value"], line["low"], line["high"]
    room = (high - low) * 0.25 or abs(value) * 0.1 or 1.0
    scale = (0.0, 1.0) if 0 <= low <= high <= 1 else (low - room, high + room)
    return plots.interval_strip(value, low, high, scale, None)


def _halves(values: list[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    middle = len(values) // 2
    first, last = sorted(values[:middle]), sorted(values[middle:])
    return first[len(first) // 2], last[len(last) // 2]
