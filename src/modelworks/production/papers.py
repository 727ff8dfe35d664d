"""The papers of a task: the signed package of a released model, or the report of one that was not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.task import Task, TaskKind
from modelworks.core.verdict import Verdict, VerdictKind
from modelworks.production.fitting import load_model, load_record
from modelworks.production.judging import JUDGED
from modelworks.production.survey import load_rows
from modelworks.production.task_data import task_to_json

if TYPE_CHECKING:
    from modelworks.core.schema import Schema

REPORT = "report.html"
PACKAGE = "package"
EXAMPLE_ROWS = 8


def write_papers(
    table_folder: Path,
    fit_folder: Path,
    judged_folder: Path,
    keys: Path,
    task: Task,
    facts: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write the package of a released model and replay it in a clean process; else write the report alone.

    Args:
        table_folder: What ``ingest`` wrote.
        fit_folder: What ``fit`` wrote.
        judged_folder: What ``judge`` wrote.
        keys: Folder of the signing key.
        task: The task.
        facts: ``dataset`` (``digest``, ``name``), ``lineage`` (digests), ``cost``, ``created``, ``looks``.
        folder: Gets the files of the package, or ``report.html`` alone.

    Returns:
        ``verdict``; for a released model ``package`` (its digest) and ``protections`` of the clean process.

    Raises:
        TrustError: The package does not answer its golden examples in a clean process.
    """
    from modelworks.data import open_table
    from modelworks.packaging import SigningKey, TrustPolicy, build, open_package, render_model_report

    record = load_record(fit_folder)
    judged = json.loads((judged_folder / JUDGED).read_text(encoding="utf-8"))
    verdict = Verdict.from_json(judged["verdict"])
    model = load_model(fit_folder, record)
    task = replace(task, kind=TaskKind(record["kind"]))
    table, schema = open_table(table_folder)
    profile = json.loads((table_folder / "profile.json").read_text(encoding="utf-8"))
    lineage = {
        "dataset": {**facts["dataset"], "rows": table.num_rows},
        "recipe": record["recipe"],
        "split": {**record["split"], "test": facts["test"], "looks": facts["looks"]},
        "steps": facts["steps"],
    }
    evaluation = shown_evaluation(judged)
    more = {"guard": record["findings"], "commands": _commands(task, verdict)}
    if verdict.kind is not VerdictKind.RELEASED:
        page = _page(task, schema, model, record, judged, profile, lineage, facts, evaluation) | more
        (folder / REPORT).write_text(render_model_report(page), encoding="utf-8")
        return {"verdict": verdict.to_json()}
    key = SigningKey.load_or_create(keys)
    build(
        folder / PACKAGE,
        model=model,
        task=task,
        schema=schema,
        evaluation=evaluation,
        verdict=verdict,
        profile=profile,
        lineage=lineage,
        measured=judged["measured"],
        cost=facts["cost"],
        examples=_examples(table, schema, record, fit_folder),
        key=key,
        created=facts["created"],
        report=more,
    )
    package = open_package(folder / PACKAGE, TrustPolicy(keys={key.id: key.public}))
    replayed = package.verify()
    for path in (folder / PACKAGE).iterdir():
        path.rename(folder / path.name)
    (folder / PACKAGE).rmdir()
    return {
        "verdict": verdict.to_json(),
        "package": package.digest,
        "protections": replayed.protections,
        "replayed": replayed.rows,
    }


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
    schema: Schema,
    model: Any,
    record: dict[str, Any],
    judged: dict[str, Any],
    profile: dict[str, Any],
    lineage: dict[str, Any],
    facts: dict[str, Any],
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    from modelworks.core.clock import iso

    return {
        "title": task.name,
        "created": iso(facts["created"]),
        "task": task_to_json(task),
        "verdict": judged["verdict"],
        "evaluation": evaluation,
        "fit": model.diagnostics,
        "profile": profile,
        "measured": judged["measured"],
        "cost": facts["cost"],
        "lineage": lineage,
        "signature": model.signature.to_json(),
        "columns": [schema[name].to_json() for name in record["features"]],
    }


def _examples(table: Any, schema: Schema, record: dict[str, Any], fit_folder: Path) -> list[dict[str, Any]]:
    """Return a few raw training rows as JSON values of the graph's columns."""
    import numpy as np
    import pyarrow as pa

    from modelworks.core.signature import MISSING_DATETIME
    from modelworks.data import typed_columns

    rows = load_rows(fit_folder, "train")
    chosen = rows[np.linspace(0, len(rows) - 1, min(EXAMPLE_ROWS, len(rows))).astype(np.int64)]
    names = record["features"]
    columns = typed_columns(table.select(names).take(pa.array(chosen)), schema, names)

    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        missing = isinstance(value, float) and math.isnan(value)
        return None if missing or value in ("", MISSING_DATETIME) else value

    return [{name: plain(columns[name][index]) for name in names} for index in range(len(chosen))]


def _commands(task: Task, verdict: Verdict) -> list[list[str]]:
    if verdict.kind is not VerdictKind.RELEASED:
        return [["Look at the table", f"mw data show {task.data}"]]
    return [
        ["Check the package", f"mw package verify {task.name}"],
        ["Ask the model", f"mw predict {task.name} {task.data}"],
        ["Explain an answer", f"mw explain {task.name} --row 0"],
        ["Export it", f"mw package export {task.name} --to docker --out {task.name}-docker"],
    ]
