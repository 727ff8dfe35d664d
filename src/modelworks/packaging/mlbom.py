"""The machine-learning bill of materials: CycloneDX 1.7 with a model card, every field the factory knows.

Standard: ECMA-424, https://cyclonedx.org/docs/1.7/json/ (``component.modelCard``).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

SPEC_VERSION = "1.7"
JOULES_PER_KWH = 3.6e6
SPDX_IDS = frozenset({
    "0BSD", "AFL-3.0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC-BY-4.0", "CC-BY-SA-4.0",
    "CC-BY-NC-4.0", "CC-BY-ND-4.0", "CC0-1.0", "CDLA-Permissive-2.0", "EUPL-1.2", "GPL-2.0-only", "GPL-3.0-only", "ISC",
    "LGPL-3.0-only", "MIT", "MPL-2.0", "ODbL-1.0", "ODC-By-1.0", "PDDL-1.0", "Unlicense", "Zlib",
})  # fmt: skip
"""Licences named by their SPDX identifier; any other text is a licence's name."""


def write_mlbom(
    manifest: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    evaluation: Mapping[str, Any],
    guard: Sequence[Mapping[str, Any]],
    members: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the ML-BOM of a package as plain data.

    Args:
        manifest: The manifest's data without ``files``.
        files: Digest and size of the files written before this one.
        evaluation: ``evaluation.evaluate(...)``.
        guard: The guard's findings.
        members: Candidates of the fit with weight and loss.
    """
    dataset = manifest["dataset"]
    reference = f"dataset:{dataset['digest']}"
    identity = f"{files['model.onnx']['sha256']}:{manifest['created']}"
    runtime = [_library("onnxruntime", "MIT"), _library("numpy", "BSD-3-Clause")]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, identity)}",
        "version": 1,
        "metadata": {
            "timestamp": manifest["created"],
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [_tool(manifest["code"])]},
            "licenses": [{"license": {"id": "CC0-1.0"}}],
            "component": _model(manifest, files, evaluation, guard, members, reference),
        },
        "components": [_dataset(manifest, reference), *runtime],
        "dependencies": [
            {"ref": "model", "dependsOn": [reference, *(item["bom-ref"] for item in runtime)]},
            *(
                {"ref": item, "dependsOn": []}
                for item in (reference, *(found["bom-ref"] for found in runtime))
            ),
        ],
    }


def _model(
    manifest: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    evaluation: Mapping[str, Any],
    guard: Sequence[Mapping[str, Any]],
    members: Sequence[Mapping[str, Any]],
    dataset: str,
) -> dict[str, Any]:
    task = manifest["task"]
    maker = {"name": str(manifest["code"].get("name"))}
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "mime-type": "application/x-onnx",
        "supplier": maker,
        "manufacturer": maker,
        "group": "modelworks",
        "name": manifest["name"],
        "version": files["model.onnx"]["sha256"][:12],
        "description": f"Predicts {_target(task)} ({task.get('kind')}) from {len(manifest['columns'])} columns.",
        "hashes": [{"alg": "SHA-256", "content": files["model.onnx"]["sha256"]}],
        "licenses": [_licence(manifest["licences"].get("model"))],
        "purl": f"pkg:generic/{manifest['name']}@{files['model.onnx']['sha256'][:12]}",
        "externalReferences": [
            {
                "type": kind,
                "url": name,
                "comment": what,
                "hashes": [{"alg": "SHA-256", "content": files[name]["sha256"]}],
            }
            for name, kind, what in (
                ("model.onnx", "distribution", "the graph"),
                ("card.md", "model-card", "for people"),
                ("report.html", "quality-metrics", "with plots"),
                ("examples.json", "evidence", "golden examples, replayed at every load"),
                ("predict.py", "documentation", "how to use it without us"),
            )
        ],
        "pedigree": {"notes": f"Fitted by {_recipe(manifest)}; steps: {_steps(manifest)}."},
        "modelCard": {
            "bom-ref": "model-card",
            "modelParameters": _parameters(manifest, members, dataset),
            "quantitativeAnalysis": {"performanceMetrics": _metrics(manifest, evaluation)},
            "considerations": _considerations(manifest, evaluation, guard),
            "properties": _properties(manifest, evaluation, members),
        },
        "properties": _facts(manifest),
        "tags": ["onnx", "table", str(task.get("kind"))],
    }


def _parameters(
    manifest: Mapping[str, Any], members: Sequence[Mapping[str, Any]], dataset: str
) -> dict[str, Any]:
    kept = [str(item.get("name")) for item in members if item.get("kept")]
    return {
        "approach": {"type": "supervised"},
        "task": str(manifest["task"].get("kind")),
        "architectureFamily": str(manifest["recipe"].get("name", "table model")),
        "modelArchitecture": ", ".join(kept) or str(manifest["recipe"].get("chosen", "one ONNX graph")),
        "datasets": [{"ref": dataset}],
        "inputs": [{"format": _format(item)} for item in manifest["signature"]["inputs"]],
        "outputs": [{"format": _format(item)} for item in manifest["signature"]["outputs"]],
    }


def _metrics(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    whole = [(measure["name"], "all sealed test rows", measure) for measure in manifest["metrics"]]
    metric = str(evaluation.get("metric", ""))
    parts = [(metric, str(item.get("slice", "")), item) for item in _slices(evaluation)]
    return [
        {
            "type": name,
            "value": _figure(item["value"]),
            "slice": where,
            "confidenceInterval": {"lowerBound": _figure(item["low"]), "upperBound": _figure(item["high"])},
        }
        for name, where, item in (*whole, *parts)
    ]


def _considerations(
    manifest: Mapping[str, Any], evaluation: Mapping[str, Any], guard: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    task, limits = manifest["task"], manifest["task"].get("limits") or {}
    warnings = [str(item.get("message")) for item in guard if item.get("severity") != "info"]
    calibration = evaluation.get("calibration") or {}
    if calibration.get("miscalibrated"):
        warnings.append("Its probabilities are off by more than chance explains; see report.html.")
    found: dict[str, Any] = {
        "users": ["people and programs that hold rows like the training rows"],
        "useCases": [f"predict {_target(task)} from a row of raw values"],
        "technicalLimitations": [
            str(manifest["verdict"].get("cause", "")),
            "Judged only on rows that come from where the training rows came from; profile.json says what is usual.",
            *warnings,
        ],
        "performanceTradeoffs": [
            f"limits: {limits.get('latency_ms', 'none')} ms a row, {limits.get('size_mb', 'none')} MB; "
            f"measured {_figure(_p99(manifest))} ms (99th percentile), {manifest['measured'].get('size_bytes')} bytes"
        ],
        "ethicalConsiderations": [
            {
                "name": "quality may differ between groups of people",
                "mitigationStrategy": "declare the groups as slices; the gate holds on each of them",
            }
        ],
        "fairnessAssessments": [
            {
                "groupAtRisk": str(item.get("slice", "")),
                "harms": f"{evaluation.get('metric')} there is {_figure(item['value'])} "
                f"({_figure(item['low'])} to {_figure(item['high'])})",
                "mitigationStrategy": "the gate compares each declared slice with its bound",
            }
            for item in _slices(evaluation)
        ],
    }
    energy = manifest["cost"].get("energy_j")
    if isinstance(energy, (int, float)) and energy > 0:
        found["environmentalConsiderations"] = {
            "energyConsumptions": [_energy(float(energy), manifest["cost"])]
        }
    return {name: value for name, value in found.items() if value}


def _energy(joules: float, cost: Mapping[str, Any]) -> dict[str, Any]:
    used = {"value": joules / JOULES_PER_KWH, "unit": "kWh"}
    source = str(cost.get("energy_source", "declared"))
    provider = {
        "description": f"{source}, of the machine that fitted the model",
        "organization": {"name": "operator of the machine"},
        "energySource": "unknown",
        "energyProvided": used,
    }
    return {"activity": "training", "energyProviders": [provider], "activityEnergyCost": used}


def _properties(
    manifest: Mapping[str, Any], evaluation: Mapping[str, Any], members: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    values = {
        "gate": "; ".join(
            f"{item['name']}: {item['outcome']}" for item in manifest["verdict"].get("checks", [])
        ),
        "decision_threshold": manifest["recipe"].get("threshold"),
        "explainability": _explanation(evaluation),
        "preprocessing": "inside the graph: raw numbers, texts, date-times and missing values go in",
        "training": f"{manifest['dataset'].get('rows')} rows, {manifest['recipe'].get('folds')} folds",
        "hyperparameters": "; ".join(f"{item.get('name')}: weight {item.get('weight')}" for item in members),
        "autonomy": "it answers; it does not act",
        "personal_data": "not examined beyond column kinds; see profile.json",
    }
    return [
        {"name": f"modelworks:{name}", "value": str(value)}
        for name, value in values.items()
        if value is not None
    ]


def _facts(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    cost, latency = manifest["cost"], manifest["measured"].get("latency_ms") or {}
    values = {
        "cpu_s": cost.get("cpu_s"),
        "money": cost.get("money", cost.get("total")),
        "currency": cost.get("currency"),
        "latency_ms_p50": latency.get("p50"),
        "latency_ms_p99": latency.get("p99"),
        "size_bytes": manifest["measured"].get("size_bytes"),
    }
    return [
        {"name": f"modelworks:{name}", "value": str(value)}
        for name, value in values.items()
        if value is not None
    ]


def _dataset(manifest: Mapping[str, Any], reference: str) -> dict[str, Any]:
    dataset = manifest["dataset"]
    name = str(dataset.get("name", "unnamed"))
    split = manifest["lineage"].get("split") or {}
    return {
        "type": "data",
        "bom-ref": reference,
        "name": name,
        "version": dataset["digest"][:12],
        "description": f"{dataset.get('rows', 'unknown number of')} rows; {split.get('method', 'split not stated')}.",
        "hashes": [{"alg": "SHA-256", "content": dataset["digest"]}],
        "licenses": [_licence(manifest["licences"].get("data"))],
        "data": [
            {
                "type": "dataset",
                "name": name,
                "contents": {"properties": [{"name": "modelworks:rows", "value": str(dataset.get("rows"))}]},
                "classification": str(dataset.get("classification", "not stated")),
                "description": ", ".join(f"{item['name']} ({item['kind']})" for item in manifest["columns"])[
                    :2000
                ],
                "governance": {
                    "owners": [{"organization": {"name": str(dataset.get("owner", "not stated"))}}]
                },
            }
        ],
    }


def _tool(code: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "application",
        "name": str(code.get("name")),
        "version": str(code.get("version")),
        "licenses": [_licence("Apache-2.0")],
    }


def _library(name: str, licence: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}",
        "name": name,
        "purl": f"pkg:pypi/{name}",
        "licenses": [_licence(licence)],
        "description": "needed to run the graph",
    }


def _licence(name: Any) -> dict[str, Any]:
    return {"license": {"id": name} if name in SPDX_IDS else {"name": str(name or "not stated")}}


def _slices(evaluation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = evaluation.get("slices") or []
    names = ("value", "low", "high")
    return [item for item in items if all(isinstance(item.get(name), (int, float)) for name in names)]


def _explanation(evaluation: Mapping[str, Any]) -> str:
    items = evaluation.get("importance") or []
    if not items:
        return "mw explain answers for single rows"
    leading = ", ".join(f"{item.get('column')} {_figure(item.get('value'))}" for item in items[:10])
    return f"{items[0].get('method', 'permutation importance')}: {leading}"


def _target(task: Mapping[str, Any]) -> str:
    target = task.get("target")
    return target if isinstance(target, str) else ", ".join(map(str, target or ()))


def _recipe(manifest: Mapping[str, Any]) -> str:
    return (
        f"{manifest['recipe'].get('name', 'unnamed')} version {manifest['recipe'].get('version', 'unknown')}"
    )


def _steps(manifest: Mapping[str, Any]) -> str:
    steps = manifest["lineage"].get("steps") or {}
    return ", ".join(f"{name} {str(digest)[:12]}" for name, digest in steps.items()) or "not stated"


def _p99(manifest: Mapping[str, Any]) -> Any:
    return (manifest["measured"].get("latency_ms") or {}).get("p99")


def _figure(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) else "unknown"


def _format(tensor: Mapping[str, Any]) -> str:
    columns = ", ".join(tensor.get("columns", ()))
    return f"{tensor['name']} {tensor['datatype']} {tensor['shape']}" + (f": {columns}" if columns else "")
