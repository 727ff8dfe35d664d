"""The model card: Markdown with the front matter that model hubs read (``model-index``), written by machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNPRINTABLE = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")
PIPELINE_TAGS = {
    "binary": "tabular-classification",
    "multiclass": "tabular-classification",
    "multilabel": "tabular-classification",
    "regression": "tabular-regression",
}


def write_card(
    manifest: Mapping[str, Any], evaluation: Mapping[str, Any], guard: Sequence[Mapping[str, Any]]
) -> str:
    """Return ``card.md`` for the manifest's data, the evaluation and the guard's findings."""
    sections = [
        _front_matter(manifest),
        f"# {_line(manifest['name'])}\n",
        _intended_use(manifest),
        _data(manifest),
        _metrics(manifest),
        _slices(evaluation),
        _limits(manifest, guard),
        _how_to_use(manifest),
        _making(manifest),
    ]
    return "\n".join(section for section in sections if section)


def _front_matter(manifest: Mapping[str, Any]) -> str:
    task = manifest["task"]
    kind = str(task.get("kind") or "")
    tag = PIPELINE_TAGS.get(kind, "other")
    dataset = manifest["dataset"]
    results = [
        {
            "task": {"type": tag},
            "dataset": {
                "name": str(dataset.get("name", "unnamed")),
                "type": "private",
                "revision": dataset["digest"],
            },
            "metrics": [
                {
                    "type": measure["name"],
                    "value": measure["value"],
                    "name": f"{measure['name']} [{measure['low']:.4g}, {measure['high']:.4g}] "
                    f"at {measure.get('level', 0.95):.0%}, n={measure['n']}",
                }
                for measure in manifest["metrics"]
            ],
        }
    ]
    front = {
        "license": str(manifest["licences"].get("model", "other")).lower(),
        "library_name": "onnx",
        "pipeline_tag": tag,
        "tags": ["modelworks", "onnx", "tabular", kind],
        "model-index": [{"name": manifest["name"], "results": results}],
    }
    # JSON is YAML: quoting every text this way leaves a hostile name nothing to break out of.
    lines = [f"{_yaml(key)}: {_yaml(value)}" for key, value in front.items()]
    return "---\n" + "\n".join(lines) + "\n---\n"


def _yaml(value: Any) -> str:
    """Return JSON whose texts YAML reads the same: what is not printable is escaped as YAML does it."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\U{ord(found.group()):08x}", _SURROGATE.sub("\ufffd", text))


def _intended_use(manifest: Mapping[str, Any]) -> str:
    task = manifest["task"]
    target = task.get("target")
    target = ", ".join(target) if isinstance(target, (list, tuple)) else target
    classes = manifest["signature"]["classes"]
    text = (
        f"Predicts {_code(target)} ({task.get('kind')}) from {len(manifest['columns'])} columns of a table."
    )
    if classes:
        text += f" Classes: {', '.join(_code(name) for name in classes[:20])}{' ...' if len(classes) > 20 else ''}."
    return (
        f"## Intended use\n\n{text}\n\nIt answers for rows that come from where the training rows came from. "
        "It was not judged on anything else; the profile in `profile.json` says what is usual.\n"
    )


def _data(manifest: Mapping[str, Any]) -> str:
    dataset = manifest["dataset"]
    lines = [
        f"- {name}: {_code(value)}" for name, value in dataset.items() if not isinstance(value, (dict, list))
    ]
    return "## Data\n\n" + "\n".join(lines) + "\n"


def _metrics(manifest: Mapping[str, Any]) -> str:
    lines = ["## Metrics", "", "Computed by the shipped graph on sealed test rows.", ""]
    lines += ["| metric | value | interval | level | rows | method |", "|---|---|---|---|---|---|"]
    for measure in manifest["metrics"]:
        lines.append(
            f"| {_cell(measure['name'])} | {measure['value']:.4g} | {measure['low']:.4g} to {measure['high']:.4g} "
            f"| {measure.get('level', 0.95):.0%} | {measure['n']:,} | {_cell(measure.get('method', ''))} |"
        )
    verdict = manifest["verdict"]
    lines += ["", f"Verdict: **{_cell(verdict['kind'])}**. {_line(verdict.get('cause', ''))}", ""]
    for check in verdict.get("checks", []):
        lines.append(
            f"- {_cell(check['outcome'])}: {_line(check['name'])} ({_line(check.get('detail', ''))})"
        )
    return "\n".join(lines) + "\n"


def _slices(evaluation: Mapping[str, Any]) -> str:
    slices = [item for item in evaluation.get("slices") or [] if isinstance(item, Mapping)]
    if not slices:
        return ""
    lines = ["## Slices", "", "| slice | rows | value | interval |", "|---|---|---|---|"]
    for item in slices[:50]:
        value, low, high = (_figure(item.get(name)) for name in ("value", "low", "high"))
        name = _cell(str(item.get("slice") or item.get("name") or ""))
        lines.append(f"| {name} | {item.get('n', '')} | {value} | {low} to {high} |")
    return "\n".join(lines) + "\n"


def _limits(manifest: Mapping[str, Any], guard: Sequence[Mapping[str, Any]]) -> str:
    lines = ["## Limits and warnings", ""]
    lines += [f"- {_line(item.get('message', ''))} ({_cell(item.get('severity', ''))})" for item in guard]
    lines.append(
        "- Values never seen in training are treated as the graph's fallback; they are in `examples.json`."
    )
    excluded = manifest["task"].get("exclude") or []
    if excluded:
        lines.append(f"- Not read on purpose: {', '.join(_code(name) for name in excluded)}.")
    return "\n".join(lines) + "\n"


def _how_to_use(manifest: Mapping[str, Any]) -> str:
    return (
        "## Use\n\n```sh\npip install onnxruntime numpy\npython predict.py rows.csv\n```\n\n"
        "Columns: "
        + ", ".join(f"{_code(item['name'])} ({item['kind']})" for item in manifest["columns"])
        + "\n"
    )


def _making(manifest: Mapping[str, Any]) -> str:
    measured, cost = manifest["measured"], manifest["cost"]
    lines = ["## Making", "", f"- made: {manifest['created']}"]
    lines += [f"- {name}: {_code(manifest['code'].get(name))}" for name in ("name", "version")]
    lines.append(f"- recipe: {_code(manifest['recipe'].get('name', ''))}")
    latency = measured.get("latency_ms") or {}
    if latency:
        lines.append(
            f"- one row: {latency.get('p50', 0):.3g} ms (median), {latency.get('p99', 0):.3g} ms (p99)"
        )
    if "cpu_s" in cost:
        lines.append(f"- cost: {cost['cpu_s']:.3g} CPU-seconds")
    return "\n".join(lines) + "\n"


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else ""


def _line(value: Any) -> str:
    """Return a text on one line that Markdown shows as it is and that holds no HTML."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]<>#|&":
        text = text.replace(mark, f"&#{ord(mark)};" if mark in "<>&|" else f"\\{mark}")
    return text


_cell = _line


def _code(value: Any) -> str:
    """Return a text as inline code; back-ticks and line ends cannot leave it."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`"
