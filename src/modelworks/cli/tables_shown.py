"""How results look on a terminal: plain tables and short texts drawn from the service's data."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

_COLOURS = {"released": "green", "refused": "yellow", "needs_evidence": "cyan", "failed": "red"}
_STATUS = {"ok": "green", "warning": "yellow", "error": "red"}


def table(*headings: str, rows: Sequence[Sequence[Any]], right: Sequence[int] = ()) -> Table:
    """Return a table; columns in ``right`` hold numbers."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return drawn


def number(value: float | None, digits: int = 4) -> str:
    """Return a number in few digits; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def span(seconds: float) -> str:
    """Return ``850 ms``, ``12.3 s`` or ``4 min 5 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def moment(wall: float) -> str:
    """Return a wall-clock time, UTC, to the minute."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M")


def show_order(result: Any) -> Group:
    """Return the summary of an order: one line per task, causes, totals, where the reports are."""
    rows = []
    for line in result.lines:
        verdict = line.verdict.kind.value
        primary = line.primary
        measure = "-"
        if primary is not None:
            ends = f"{number(primary.low, 3)} to {number(primary.high, 3)}"
            measure = f"{line.metric} {number(primary.value)} ({ends})"
        rows.append(
            (
                line.task,
                Text(verdict, style=_COLOURS[verdict]),
                measure,
                line.kind or "-",
                f"{line.size_mb * 1000:.0f} kB" if line.size_mb is not None else "-",
                f"{line.latency_ms:.2f} ms" if line.latency_ms is not None else "-",
                f"{line.cost['cpu_s']:.2f}" if line.cost else "-",
            )
        )
    parts: list[Any] = [
        table(
            "task",
            "verdict",
            "on sealed rows",
            "kind",
            "size",
            "one row",
            "CPU-s",
            rows=rows,
            right=(4, 5, 6),
        )
    ]
    for line in result.lines:
        if not line.released:
            parts.append(Text(f"\n{line.task}: {line.verdict.cause}"))
            if line.verdict.fix:
                parts.append(Text(f"  next: {line.verdict.fix}"))
    parts.append(Text(_closing(result)))
    return Group(*parts)


def _closing(result: Any) -> str:
    whole = result.cost["whole"]
    counts = [f"{result.count(kind)} {kind}" for kind in _COLOURS if result.count(kind)]
    lines = [
        "",
        f"{', '.join(counts)}; {whole['cpu_s']:.1f} CPU-seconds, {whole['money']:.2g} {whole['currency']}",
    ]
    if result.forecast:
        forecast = result.forecast
        lines.append(
            f"forecast was {forecast['cpu_s']:.1f} ({forecast['low']:.1f} to {forecast['high']:.1f}) CPU-seconds, "
            f"off by {forecast['error']:+.0%}"
        )
    for line in result.lines:
        if "error" in line.deployed:
            lines.append(f"{line.task} is not served: {line.deployed['error']}")
        elif line.deployed:
            lines.append(
                f"{line.task} is served as version {line.deployed['version']} at {line.deployed['at']}"
            )
    packages = [line for line in result.lines if line.path]
    if len(packages) == 1:
        lines.append(f"package: {packages[0].path}")
    elif packages:
        lines.append(f"packages: {Path(packages[0].path).parent.parent}")
    lines.append(f"report: {result.report}")
    if result.resume:
        lines.append(f"next: {result.resume}")
    return "\n".join(lines)


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plan_table(plan: Mapping[str, Any]) -> Group:
    """Return a plan and its forecast."""
    rows = [
        (
            task["task"],
            task["kind"],
            _some(task["target"]),
            f"{task['rows']:,}",
            task["features"],
            f"{task['cpu_s']:.1f} ({task['low']:.1f} to {task['high']:.1f})",
        )
        for task in plan["tasks"]
    ]
    text = (
        f"\n{len(rows)} tasks, about {plan['cpu_s']:.0f} CPU-seconds ({plan['low']:.0f} to {plan['high']:.0f}), "
        f"{span(plan['wall_s'])} on {plan['slots']} slots; learned from {plan['basis']} earlier tasks"
    )
    if plan["late"]:
        text += f"\nlate by this plan: {', '.join(plan['late'])}"
    for line in plan.get("unplanned", ()):
        text += f"\n{line['task']}: {line['verdict']}: {line['cause']}" + (
            f" Fix: {line['fix']}" if line["fix"] else ""
        )
    return Group(
        table("task", "kind", "target", "rows", "features", "CPU-s", rows=rows, right=(3, 4, 5)), Text(text)
    )


def orders_table(orders: Sequence[Mapping[str, Any]]) -> Any:
    """Return the orders of an installation."""
    if not orders:
        return "no orders yet; mw produce FILE --target COLUMN"
    rows = [
        (
            order["run"],
            order["status"],
            order["lines"],
            ", ".join(f"{count} {kind}" for kind, count in order["verdicts"].items()) or "-",
            moment(order["updated"]),
        )
        for order in orders
    ]
    return table("order", "status", "lines", "verdicts", "last change (UTC)", rows=rows, right=(2,))


def columns_table(data: Mapping[str, Any]) -> Group:
    """Return the columns of a table with kinds and reasons."""
    rows = [
        (
            column["name"],
            column["kind"],
            f"{column['distinct']:,}",
            f"{column['missing']:,}",
            column["reason"],
        )
        for column in data["columns"]
    ]
    report = data["report"]
    notes = [f"\n{data['rows']:,} rows, {len(rows)} columns; {report.get('quarantined', 0):,} rows set aside"]
    notes += [f"warning: {_sentence(text)}" for text in report.get("warnings", ())]
    return Group(
        table("column", "kind", "distinct", "missing", "why", rows=rows, right=(2, 3)), Text("\n".join(notes))
    )


def _sentence(warning: Any) -> str:
    return str(warning.get("message", warning)) if isinstance(warning, Mapping) else str(warning)


def memory_table(data: Mapping[str, Any]) -> Any:
    """Return what is remembered, one line per task."""
    if not data["lessons"]:
        return "nothing is remembered yet"
    rows = []
    for lesson in data["lessons"]:
        facts = lesson["facts"]
        members = sorted(lesson["members"], key=lambda member: -member["weight"])
        used = ", ".join(
            f"{member['name']} {member['weight']:.2f}" for member in members[:4] if member["weight"]
        )
        features = sum(facts[name] for name in ("numbers", "categories", "texts", "moments"))
        rows.append(
            (lesson["task"], facts["kind"], f"{facts['rows']:,}", features, f"{lesson['cpu_s']:.2f}", used)
        )
    return table("task", "kind", "rows", "features", "CPU-s", "members by weight", rows=rows, right=(2, 3, 4))


def models_table(models: Sequence[Mapping[str, Any]]) -> Any:
    """Return the released models."""
    if not models:
        return "no released models yet; mw produce FILE --target COLUMN"
    rows = [
        (
            f"{model['name']}@{model['version']}",
            f"{model['metric'] or '-'} {number(model['value'])}",
            model["package"][:12],
            moment(model["created"]),
            model["path"],
        )
        for model in models
    ]
    return table("model", "on sealed rows", "package", "released (UTC)", "folder", rows=rows)


def packages_table(packages: Sequence[Mapping[str, Any]]) -> Any:
    """Return all packages."""
    if not packages:
        return "no packages yet; mw produce FILE --target COLUMN"
    rows = [(item["package"][:12], item["name"], item["run"], moment(item["created"])) for item in packages]
    return table("package", "model", "order", "made (UTC)", rows=rows)


_MOST_PARTS = 20


def explanation_table(data: Mapping[str, Any]) -> Group:
    """Return why a row got its answer."""
    rows = [
        (
            item["column"],
            item["value"] if item["value"] not in (None, "") else "(missing)",
            f"{item['contribution']:+.4g}",
        )
        for item in data["contributions"][:_MOST_PARTS]
    ]
    if len(data["contributions"]) > _MOST_PARTS:
        rest = sum(item["contribution"] for item in data["contributions"][_MOST_PARTS:])
        rows.append((f"{len(data['contributions']) - _MOST_PARTS} more", "", f"{rest:+.4g}"))
    what = f"p({data['class']})" if data["class"] else "prediction"
    base = data.get("base_is", "a typical row")
    head = f"{data['model']}: {what} = {data['prediction']:.4g}; {base} has {data['base']:.4g}\n"
    against = base if "base_is" in data else f"{data['background_rows']} typical rows of the package"
    note = f"\n{data['method']}, against {against}"
    return Group(Text(head), table("column", "value", "moves it by", rows=rows, right=(2,)), Text(note))


def package_text(data: Mapping[str, Any]) -> Group:
    """Return what a package is."""
    rows = [
        (
            item["name"],
            number(item["value"]),
            f"{number(item['low'])} to {number(item['high'])}",
            f"{item['n']:,}",
        )
        for item in data["metrics"]
    ]
    checks = [(item["outcome"], item["name"], item["detail"]) for item in data["verdict"]["checks"]]
    inputs = ", ".join(
        f"{item['name']} ({len(item.get('columns', []))} columns)" for item in data["signature"]["inputs"]
    )
    latency = data["measured"].get("latency_ms", {})
    text = [
        f"{data['name']}  {data['digest'][:16]}  made {data['created']}",
        f"signed by {data['signed_by'] or 'nobody known here'}",
        f"{data['verdict']['kind']}: {data['verdict']['cause']}",
        f"reads {inputs}; {data['measured'].get('size_bytes', 0) / 1e3:.0f} kB, "
        f"one row {latency.get('p50', 0):.3f} ms (p99 {latency.get('p99', 0):.3f})",
        f"data {data['dataset'].get('digest', '')[:16]}, {data['dataset'].get('rows', 0):,} rows\n",
    ]
    return Group(
        Text("\n".join(text)),
        table("metric", "value", "interval", "rows", rows=rows, right=(1, 3)),
        Text(""),
        table("gate", "condition", "evidence", rows=checks),
    )


def diff_table(data: Mapping[str, Any]) -> Group:
    """Return what differs between two packages."""
    if data["same"]:
        return Group(Text("the packages are the same"))
    rows = [
        (
            item["name"],
            number(_value(item["one"])),
            number(_value(item["other"])),
            "overlap" if item["overlap"] else "apart",
        )
        for item in data["metrics"]
    ]
    pairs = [
        (name, str(data[name]["one"])[:40], str(data[name]["other"])[:40])
        for name in ("dataset", "verdict", "size_bytes", "latency_ms_p99", "cpu_s")
    ]
    changed = [name for name, equal in data["files"].items() if not equal]
    return Group(
        table("metric", data["one"]["name"], data["other"]["name"], "intervals", rows=rows, right=(1, 2)),
        Text(""),
        table("", "one", "other", rows=pairs),
        Text(f"\nfiles that differ: {', '.join(changed) or 'none'}"),
    )


def _value(measure: Any) -> float | None:
    return measure.get("value") if isinstance(measure, Mapping) else measure


def cost_table(data: Mapping[str, Any]) -> Group:
    """Return a bill."""
    by = data["by"]
    rows = [_cost_row(row["order"], row[by], row) for row in data["rows"]]
    rows.append(_cost_row("", "total", data["total"]))
    parts: list[Any] = [
        table(
            "order",
            by,
            "CPU-s",
            "wall s",
            "energy J",
            "people s",
            "attempts",
            "money",
            rows=rows,
            right=range(2, 8),
        )
    ]
    if data["curve"]:
        points = [
            (f"{item['n']:.0f}", f"{item['cpu_s']:.3f}", f"{item['mean_cpu_s']:.3f}")
            for item in data["curve"]
        ]
        parts += [Text(""), table("task n", "CPU-s", "mean so far", rows=points, right=(0, 1, 2))]
    return Group(*parts)


def _cost_row(order: str, name: str, bill: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        order,
        name,
        f"{bill['cpu_s']:.3f}",
        f"{bill['wall_s']:.3f}",
        f"{bill['energy_j']:.1f}",
        f"{bill['human_s']:.1f}",
        str(bill["attempts"]),
        f"{bill['money']:.6f} {bill['currency']}",
    )


def doctor_table(data: Mapping[str, Any]) -> Group:
    """Return the doctor's findings."""
    rows = [
        (
            Text(item["status"], style=_STATUS[item["status"]]),
            item["check"],
            item["detail"] + (f"\n  next: {item['fix']}" if item["fix"] else ""),
        )
        for item in data["checks"]
    ]
    text = "all is well" if data["ok"] else "something needs you"
    stamp = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return Group(table("", "check", "found", rows=rows), Text(f"\n{text} ({data['home']}, {stamp} UTC)"))
