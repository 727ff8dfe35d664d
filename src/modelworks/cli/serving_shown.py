"""How serving looks on a terminal: settings, endpoints, answers, the live picture of ``mw top``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from modelworks.cli.tables_shown import moment, number, span, table
from modelworks.cli.terminal import Terminal

_STATES = {"ready": "green", "cold": "dim", "loading": "cyan", "quarantined": "red", "failed": "red"}


def settings_table(shown: dict[str, dict[str, Any]]) -> Table:
    """Return every setting with its value and where it came from."""
    rows = [(name, _plain(item["value"]), item["from"]) for name, item in shown.items()]
    return table("setting", "value", "from", rows=rows)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return "-" if value is None else str(value)


def deployed_text(data: dict[str, Any]) -> str:
    """Return where a deployed version stands."""
    number_ = data["deployed"]
    if data["champion"] == number_:
        role = "answers everything"
    elif data["canary"] and data["canary"]["number"] == number_:
        role = f"answers {data['canary']['share']:.0%} of the traffic"
    elif data["shadow"] == number_:
        role = "gets copies of the traffic"
    else:
        role = "is known"
    return f"{data['name']}: version {number_} {role} at {data['at']}"


def endpoint_line(data: dict[str, Any]) -> str:
    """Return an endpoint's state in one line."""
    parts = [f"{data['name']}: version {data['champion']} answers"]
    if data["canary"]:
        parts.append(f"version {data['canary']['number']} gets {data['canary']['share']:.0%}")
    if data["shadow"]:
        parts.append(f"version {data['shadow']} gets copies")
    if data["settings"]:
        parts.append(", ".join(f"{key}={json.dumps(value)}" for key, value in data["settings"].items()))
    return "; ".join(parts)


def endpoints_table(endpoints: Sequence[dict[str, Any]]) -> Table:
    """Return one line per endpoint."""
    rows = []
    for item in endpoints:
        canary = item["canary"]
        rows.append(
            (
                item["name"],
                item["champion"],
                f"{canary['number']} ({canary['share']:.0%})" if canary else "-",
                item["shadow"] or "-",
                item["versions"],
                Text(item["state"], style=_STATES.get(item["state"], "")),
                item["requests"],
            )
        )
    return table(
        "endpoint", "champion", "canary", "shadow", "versions", "state", "requests", rows=rows, right=(4, 6)
    )


def endpoint_text(data: dict[str, Any]) -> Group:
    """Return an endpoint's versions and the acts that led to its state."""
    endpoint = data["endpoint"]
    versions = table(
        "version", "package", "kept at",
        rows=[(item["number"], item["digest"][:12], item["place"]) for item in endpoint["versions"]],
    )  # fmt: skip
    acts = table(
        "act", "when (UTC)", "who", "what", "with",
        rows=[
            (item["sequence"], moment(item["wall"]), item["actor"], item["verb"], json.dumps(item["detail"]))
            for item in data["acts"]
        ],
    )  # fmt: skip
    return Group(Text(endpoint_line(endpoint)), Text(), versions, Text(), acts)


def answers_table(answers: Sequence[dict[str, Any]]) -> Group:
    """Return one line per row, and its explanation below."""
    parts: list[Any] = []
    for index, answer in enumerate(answers):
        plain = {key: value for key, value in answer.items() if key != "explanation"}
        parts.append(
            Text(f"row {index}: " + ", ".join(f"{key} {_short(item)}" for key, item in plain.items()))
        )
        if "explanation" in answer:
            rows = [
                (item["column"], _short(item["value"]), number(item["contribution"]))
                for item in answer["explanation"]["contributions"][:12]
            ]
            parts.append(table("  column", "value", "moves the answer by", rows=rows, right=(2,)))
    return Group(*parts)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(item)}" for key, item in list(value.items())[:8]) + ")"
    return json.dumps(value) if isinstance(value, list) else str(value)


def tokens_table(tokens: Sequence[dict[str, Any]]) -> Table:
    """Return one line per token."""
    rows = [
        (
            item["name"],
            item["role"],
            ", ".join(item["endpoints"]),
            f"{item['rate_per_s']:g} a second" if "rate_per_s" in item else "-",
        )
        for item in tokens
    ]
    return table("token", "role", "endpoints", "rate", rows=rows)


def watch(
    terminal: Terminal,
    status: Callable[[], dict[str, Any]],
    lines: Callable[[dict[str, Any], dict[str, Any]], Sequence[Any]],
    *,
    every: float,
    once: bool,
) -> None:
    """Show the server's state, again and again until Ctrl-C, or once."""
    before = status()
    if once:
        time.sleep(min(every, 1.0))
        after = status()
        found = lines(before, after)
        plain = {"server": _server(after), "versions": [asdict(line) for line in found]}
        terminal.result(plain, lambda _: _picture(after, found))
        return
    from rich.live import Live

    with Live(console=terminal.console(), screen=terminal.live, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every)
                after = status()
                live.update(_picture(after, lines(before, after)), refresh=True)
                before = after
        except KeyboardInterrupt:
            return


def _server(state: dict[str, Any]) -> dict[str, Any]:
    kept = ("pid", "draining", "in_flight", "connections", "threads", "resident_mb", "models")
    return {"up_s": round(state["wall"] - state["started"], 1), **{name: state[name] for name in kept}}


def _picture(state: dict[str, Any], lines: Sequence[Any]) -> Group:
    models = state["models"]
    draining = ", draining" if state["draining"] else ""
    head = (
        f"up {span(state['wall'] - state['started'])}{draining}; {state['in_flight']} under way, "
        f"{state['connections']} connections, {state['resident_mb']:.0f} MB; "
        f"{models['loaded']} of {models['known']} models loaded, {models['used_mb']:.0f} of "
        f"{models['cap_mb']:.0f} MB, {models['loads']} loads, {models['evictions']} evictions"
    )
    rows = [
        (
            line.name,
            line.version,
            Text(line.state, style=_STATES.get(line.state, "")),
            f"{line.requests_per_s:.1f}",
            f"{line.errors_per_s:.1f}",
            f"{line.p50_ms:.2f}",
            f"{line.p99_ms:.2f}",
            f"{line.batch:.1f}",
            line.waiting,
            f"{line.memory_mb:.1f}",
            line.cause,
        )
        for line in lines[:40]
    ]
    body = table(
        "model", "version", "state", "req/s", "err/s", "p50 ms", "p99 ms", "batch", "waiting", "MB", "cause",
        rows=rows, right=(3, 4, 5, 6, 7, 8, 9),
    )  # fmt: skip
    return Group(Text(head), Text("* champion  ~ canary  = shadow", style="dim"), body)
