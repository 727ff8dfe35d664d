"""The papers of a task: the signed package of a released model, or the report of one that was not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelworks.core.clock import iso
from modelworks.core.task import Task, TaskKind
from modelworks.core.verdict import Verdict, VerdictKind
from modelworks.production.judging import Judged
from modelworks.production.task_data import task_to_json

REPORT = "report.html"
PACKAGE = "package"

EXAMPLE_ROWS = 8


def write_papers(
    judged: Judged,
    table_folder: Path,
    keys: Path,
    task: Task,
    facts: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write the package of a released model and replay it in a clean process; else write the report alone.

    Args:
        judged: The judged model.
        table_folder: What ``ingest`` wrote.
        keys: Folder of the signing key.
        task: The task.
        facts: ``dataset`` (``digest``, ``name``), ``steps`` (digests), ``created``, ``test``, ``looks``.
        folder: Gets ``package/``, or ``report.html`` alone.

    Returns:
        ``package`` (its digest, empty unless released), ``replayed`` (golden rows), ``protections`` of the clean
        process.

    Raises:
        TrustError: The package does not answer its golden examples in a clean process.
    """
    from modelworks.packaging import SigningKey, TrustPolicy, build, open_package, render_model_report

    record = judged.record
    verdict = Verdict.from_json(judged.findings["verdict"])
    task = replace(task, kind=TaskKind(record["kind"]))
    profile = json.loads((table_folder / "profile.json").read_text(encoding="utf-8"))
    lineage = _lineage(judged, facts)
    evaluation = shown_evaluation(judged.findings)
    cost = _cost(judged)
    more = {"guard": record["findings"], "commands": _commands(task, verdict)}
    if "samples" in judged.findings:
        more["samples"] = judged.findings["samples"]
    if verdict.kind is not VerdictKind.RELEASED:
        page = _page(task, judged, profile, lineage, cost, facts["created"], evaluation) | more
        (folder / REPORT).write_text(render_model_report(page), encoding="utf-8")
        return {"package": "", "replayed": 0, "protections": {}}
    key = SigningKey.load_or_create(keys)
    build(
        folder / PACKAGE,
        model=judged.model,
        task=task,
        schema=judged.schema,
        evaluation=evaluation,
        verdict=verdict,
        profile=profile,
        lineage=lineage,
        measured=judged.findings["measured"],
        cost=cost,
        examples=_examples(judged),
        key=key,
        created=facts["created"],
        report=more,
        session=judged.session,
    )
    package = open_package(folder / PACKAGE, TrustPolicy(keys={key.id: key.public}))
    replayed = package.verify()
    return {"package": package.digest, "replayed": replayed.rows, "protections": replayed.protections}


def _lineage(judged: Judged, facts: dict[str, Any]) -> dict[str, Any]:
    record = judged.record
    return {
        "dataset": {**facts["dataset"], "rows": judged.table.num_rows},
        "recipe": record["recipe"],
        "split": {**record["split"], "test": facts["test"], "looks": facts["looks"]},
        "steps": facts["steps"],
    }


def _cost(judged: Judged) -> dict[str, Any]:
    """Return the CPU-seconds of the steps that made this model, without what it shares with others."""
    own = {"fit": judged.record["parts"], "judge": judged.parts}
    parts = [
        {"name": f"{step}: {part}", "cpu_s": seconds, "shared": False}
        for step, found in own.items()
        for part, seconds in found.items()
    ]
    return {"cpu_s": sum(item["cpu_s"] for item in parts), "parts": parts}


def shown_evaluation(judged: dict[str, Any]) -> dict[str, Any]:
    """Return the evaluation with the sections that cards and reports show beside it."""
    baselines = [
        {"name": name, "value": item["other"], "difference": item["difference"], "p_value": item["p_value"]}
        for name, item in judged["baselines"].items()
    ]
    return {
        **judged["evaluation"],
        "baselines": baselines,
        "comparison": judged["champion"],
        "comparisons": judged["baselines"],
        "importance": judged["importance"],
    }


def _page(
    task: Task,
    judged: Judged,
    profile: dict[str, Any],
    lineage: dict[str, Any],
    cost: dict[str, Any],
    created: float,
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    return {
        "title": task.name,
        "created": iso(created),
        "task": task_to_json(task),
        "verdict": judged.findings["verdict"],
        "evaluation": evaluation,
        "fit": judged.model.diagnostics,
        "profile": profile,
        "measured": judged.findings["measured"],
        "cost": cost,
        "lineage": lineage,
        "signature": judged.model.signature.to_json(),
        "columns": [judged.schema[name].to_json() for name in judged.record["features"]],
    }


def _examples(judged: Judged) -> list[dict[str, Any]]:
    """Return a few raw training rows as values of the graph's columns."""
    import numpy as np
    import pyarrow as pa

    from modelworks.core.signature import MISSING_DATETIME
    from modelworks.data import typed_columns
    from modelworks.data.samples.payload import payload_values

    if judged.examples is not None:
        return judged.examples
    rows = judged.train
    chosen = rows[np.linspace(0, len(rows) - 1, min(EXAMPLE_ROWS, len(rows))).astype(np.int64)]
    names = judged.record["features"]
    if any(tensor.payload for tensor in judged.model.signature.inputs):
        values = payload_values(judged.table, names[0], chosen[: golden_payloads()])
        return [{names[0]: value} for value in values]
    columns = typed_columns(judged.table.select(names).take(pa.array(chosen)), judged.schema, names)

    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        missing = isinstance(value, float) and math.isnan(value)
        return None if missing or value in ("", MISSING_DATETIME) else value

    return [{name: plain(columns[name][index]) for name in names} for index in range(len(chosen))]


def golden_payloads() -> int:
    """Return how many texts, images or series a package keeps as golden rows."""
    from modelworks.packaging.golden import PAYLOAD_ROWS

    return PAYLOAD_ROWS


def _commands(task: Task, verdict: Verdict) -> list[list[str]]:
    if verdict.kind is not VerdictKind.RELEASED:
        return [["Look at the table", f"mw data show {task.data}"]]
    return [
        ["Check the package", f"mw package verify {task.name}"],
        ["Ask the model", f"mw predict {task.name} {task.data}"],
        ["Explain an answer", f"mw explain {task.name} --row 0"],
        ["Export it", f"mw package export {task.name} --to docker --out {task.name}-docker"],
    ]
