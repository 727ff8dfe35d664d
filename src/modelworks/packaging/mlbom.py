"""The machine-learning bill of materials: CycloneDX 1.6 with a model card, every field the factory knows.

Standard: ECMA-424, https://cyclonedx.org/docs/1.6/json/ (``component.modelCard``).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

SPEC_VERSION = "1.6"


def write_mlbom(manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the ML-BOM of a package as plain data; ``files`` are the digests of the files written before it."""
    identity = files["model.onnx"]["sha256"]
    dataset = manifest["dataset"]
    reference = f"dataset:{dataset['digest']}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, identity)}",
        "version": 1,
        "metadata": {
            "timestamp": manifest["created"],
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": str(manifest["code"].get("name", "modelworks")),
                        "version": str(manifest["code"].get("version", "")),
                    }
                ]
            },
            "component": _model(manifest, files, reference),
        },
        "components": [_dataset(dataset, reference)],
        "dependencies": [{"ref": "model", "dependsOn": [reference]}, {"ref": reference, "dependsOn": []}],
    }


def _model(
    manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]], dataset: str
) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": manifest["name"],
        "version": files["model.onnx"]["sha256"][:12],
        "description": f"Predicts {manifest['task'].get('target')!r} ({manifest['task'].get('kind')}).",
        "hashes": [{"alg": "SHA-256", "content": files["model.onnx"]["sha256"]}],
        "licenses": [_licence(manifest["licences"].get("model"))],
        "modelCard": {
            "bom-ref": "model-card",
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": str(manifest["task"].get("kind")),
                "architectureFamily": str(manifest["recipe"].get("name", "")),
                "modelArchitecture": str(
                    manifest["recipe"].get("chosen", manifest["recipe"].get("name", ""))
                ),
                "datasets": [{"ref": dataset}],
                "inputs": [{"format": _format(item)} for item in manifest["signature"]["inputs"]],
                "outputs": [{"format": _format(item)} for item in manifest["signature"]["outputs"]],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    {
                        "type": measure["name"],
                        "value": repr(measure["value"]),
                        "slice": "all rows",
                        "confidenceInterval": {
                            "lowerBound": repr(measure["low"]),
                            "upperBound": repr(measure["high"]),
                        },
                    }
                    for measure in manifest["metrics"]
                ]
            },
            "considerations": {
                "users": ["people and programs that hold rows like the training rows"],
                "useCases": [f"predict {manifest['task'].get('target')!r} from a row of raw values"],
                "technicalLimitations": [str(manifest["verdict"].get("cause", ""))],
            },
        },
    }


def _dataset(dataset: Mapping[str, Any], reference: str) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": reference,
        "name": str(dataset.get("name", "unnamed")),
        "version": dataset["digest"][:12],
        "hashes": [{"alg": "SHA-256", "content": dataset["digest"]}],
        "licenses": [_licence(dataset.get("licence"))],
        "data": [{"type": "dataset", "name": str(dataset.get("name", "unnamed"))}],
    }


def _licence(name: Any) -> dict[str, Any]:
    return {"license": {"name": str(name or "not stated")}}


def _format(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['name']} {tensor['datatype']} {tensor['shape']}"
