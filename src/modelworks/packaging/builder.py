"""Building a package: write every file, sign the manifest, make the folder appear whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from modelworks.compute.runtime import GraphSession
from modelworks.core.clock import iso
from modelworks.core.digest import canonical_json, digest_bytes
from modelworks.core.errors import Conflict, ExecutionError
from modelworks.core.estimator import FittedModel
from modelworks.core.schema import Schema
from modelworks.core.signature import TOKENIZER
from modelworks.core.task import Task
from modelworks.core.verdict import Verdict
from modelworks.core.version import VERSION
from modelworks.packaging.card import write_card
from modelworks.packaging.golden import Answering, golden_examples
from modelworks.packaging.keys import SigningKey
from modelworks.packaging.manifest import (
    CARD,
    EXAMPLES,
    FILE_KINDS,
    MANIFEST,
    MLBOM,
    MODEL,
    PREDICT,
    PROFILE,
    REPORT,
    SIGNATURE,
    Manifest,
    parse_manifest,
)
from modelworks.packaging.mlbom import write_mlbom
from modelworks.packaging.publishing import publish
from modelworks.packaging.report import render_model_report
from modelworks.packaging.sources import public_name, without_secrets


def build(
    folder: Path,
    *,
    model: FittedModel,
    task: Task,
    schema: Schema,
    evaluation: Mapping[str, Any],
    verdict: Verdict,
    profile: Mapping[str, Any],
    lineage: Mapping[str, Any],
    measured: Mapping[str, Any],
    cost: Mapping[str, Any],
    examples: Sequence[Mapping[str, Any]],
    key: SigningKey,
    created: float,
    licences: Mapping[str, str] | None = None,
    report: Mapping[str, Any] | None = None,
    session: Answering | None = None,
) -> Manifest:
    """Write the package of a judged model to ``folder``, signed; equal arguments give equal bytes.

    Args:
        folder: Where the package appears; must not exist. Files are written beside it and renamed.
        model: The fitted model.
        task: Its task.
        schema: Schema of the table; the columns the graph reads are kept for row-wise use.
        evaluation: ``evaluation.evaluate(...)``; its ``measures`` become the manifest's metrics.
        verdict: How the gate came out.
        profile: ``data.profile(...)`` and the drift thresholds of the monitor.
        lineage: ``dataset`` ``{digest, name?, rows?, licence?}``, ``recipe`` ``{name, version?, ...}``, and any
            other digests (steps, splits, parents) worth keeping.
        measured: ``{"latency_ms": {"p50", "p99"}, ...}``; ``size_bytes`` is added.
        cost: Ledger figures of this model.
        examples: Raw rows for the golden examples (column -> JSON value), best from the training part; rows
            with missing and unseen values are added.
        key: Who signs.
        created: Seconds since the epoch.
        licences: SPDX identifiers by part: ``model``, ``data``.
        report: Further sections of ``render_model_report`` (``guard``, ``commands``, ...).
        session: What answers as the model's graph does, where the caller has it loaded.

    Raises:
        Conflict: ``folder`` exists.
        ExecutionError: The graph answers its own golden examples with numbers that are not finite.
        DataError: An example does not fit the signature.
    """
    if folder.exists():
        raise Conflict(f"There is something at {folder.name} already.", where=str(folder))
    golden = golden_examples(session or GraphSession(model.onnx), model.signature, examples)
    names = _public_names(task, lineage)
    head = _head(
        model=model, task=task, schema=schema, evaluation=evaluation, verdict=verdict, lineage=lineage,
        measured=measured, cost=cost, created=created, licences=licences or {}, names=names,
    )  # fmt: skip
    told = without_secrets(
        {"evaluation": evaluation, "profile": profile, "fit": model.diagnostics, **(report or {})}, names
    )
    shipped = {MODEL: model.onnx, EXAMPLES: _json(golden)}
    if model.signature.tokenizer is not None:
        shipped[TOKENIZER] = model.signature.tokenizer.data
    files, entries = _listed_files(head, told, shipped)
    manifest = _json({**head, "files": entries})
    files |= {MANIFEST: manifest, SIGNATURE: key.sign(manifest)}
    for name, data in files.items():
        if len(data) > FILE_KINDS[name]:
            raise ExecutionError(
                f"{name} would have {len(data):,} bytes; a package allows {FILE_KINDS[name]:,}.",
                code="MW5012",
            )
    publish(folder, files)
    return parse_manifest(manifest, digest_bytes(manifest))


def _listed_files(
    head: Mapping[str, Any], told: Mapping[str, Any], files: Mapping[str, bytes]
) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """Return ``files`` with the papers and the bill of materials, which lists all the others, and their entries."""
    guard, members = told.get("guard") or (), told["fit"].get("members") or ()
    found = {**files, **_papers(head, told)}
    entries = _entries(found)
    found[MLBOM] = _json(write_mlbom(head, entries, told["evaluation"], guard, members))
    return found, entries | _entries({MLBOM: found[MLBOM]})


def _papers(head: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files for people and monitors: ``head`` is the manifest's data, ``told`` what the caller knows."""
    shown = ("created", "task", "verdict", "measured", "cost", "lineage", "signature", "columns")
    page = {"title": head["name"], **{name: head[name] for name in shown}, **told}
    return {
        PROFILE: _json(told["profile"]),
        CARD: write_card(head, told["evaluation"], told.get("guard") or ()).encode(),
        REPORT: render_model_report(page).encode(),
        PREDICT: (resources.files("modelworks.packaging") / PREDICT).read_bytes(),
    }


def _head(
    *,
    model: FittedModel,
    task: Task,
    schema: Schema,
    evaluation: Mapping[str, Any],
    verdict: Verdict,
    lineage: Mapping[str, Any],
    measured: Mapping[str, Any],
    cost: Mapping[str, Any],
    created: float,
    licences: Mapping[str, str],
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Return the manifest's data without ``files``."""
    lineage = without_secrets(lineage, names)
    dataset = dict(lineage["dataset"])
    empty = Manifest(
        name=task.name,
        created=iso(created),
        task=without_secrets(asdict(task), names),
        signature=model.signature,
        columns=tuple(schema[name].to_json() for name in model.signature.columns),
        dataset=dataset,
        recipe={**lineage.get("recipe", {}), **_chosen(model)},
        code={"name": "modelworks", "version": VERSION},
        metrics=tuple(without_secrets(evaluation.get("measures", ()), names)),
        verdict=without_secrets(verdict.to_json(), names),
        lineage={**lineage, "dataset": dataset},
        licences={"code": "Apache-2.0", "data": str(dataset.get("licence") or "not stated"), **licences},
        measured={**measured, "size_bytes": len(model.onnx)},
        cost=dict(without_secrets(cost, names)),
        files={},
    )
    data = empty.to_json()
    del data["files"]
    return data


def _public_names(task: Task, lineage: Mapping[str, Any]) -> dict[str, str]:
    """Return how the sources of a task are told: a path by its last part, a URL without secrets."""
    sources = (task.data, task.split.test_data, lineage["dataset"].get("name"))
    told = {str(source): public_name(str(source)) for source in sources if source}
    return {private: public for private, public in told.items() if private != public}


def _chosen(model: FittedModel) -> dict[str, Any]:
    return {
        name: model.diagnostics[name]
        for name in ("chosen", "threshold", "folds")
        if name in model.diagnostics
    }


def _entries(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    return {name: {"sha256": digest_bytes(data), "size": len(data)} for name, data in files.items()}


def _json(value: Any) -> bytes:
    return canonical_json(value) + b"\n"
