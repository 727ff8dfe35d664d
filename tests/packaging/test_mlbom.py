"""The ML-BOM: valid by the standard's own schema, and nearly complete (a field the factory knows is a field told)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

import package_arguments as given
import page_data
import pytest

from modelworks.packaging import Package, SigningKey, TrustPolicy, build, open_package

ASKED = (
    "bomFormat", "specVersion", "serialNumber", "version", "metadata.timestamp", "metadata.tools",
    "metadata.licenses", "metadata.lifecycles", "metadata.component.type", "metadata.component.bom-ref",
    "metadata.component.supplier", "metadata.component.manufacturer", "metadata.component.group",
    "metadata.component.name", "metadata.component.version", "metadata.component.description",
    "metadata.component.hashes", "metadata.component.licenses", "metadata.component.purl",
    "metadata.component.externalReferences", "metadata.component.pedigree", "metadata.component.properties",
    "metadata.component.tags", "modelCard.bom-ref", "modelCard.modelParameters.approach",
    "modelCard.modelParameters.task", "modelCard.modelParameters.architectureFamily",
    "modelCard.modelParameters.modelArchitecture", "modelCard.modelParameters.datasets",
    "modelCard.modelParameters.inputs", "modelCard.modelParameters.outputs",
    "modelCard.quantitativeAnalysis.performanceMetrics", "modelCard.quantitativeAnalysis.graphics",
    "modelCard.considerations.users", "modelCard.considerations.useCases",
    "modelCard.considerations.technicalLimitations", "modelCard.considerations.performanceTradeoffs",
    "modelCard.considerations.ethicalConsiderations", "modelCard.considerations.fairnessAssessments",
    "modelCard.considerations.environmentalConsiderations", "modelCard.properties", "data.bom-ref", "data.name",
    "data.version", "data.description", "data.hashes", "data.licenses", "data.data.type", "data.data.name",
    "data.data.contents", "data.data.classification", "data.data.description", "data.data.governance",
    "components", "dependencies",
)  # fmt: skip
"""Fields of CycloneDX 1.7 that describe a model, its data and its making."""


@pytest.fixture(scope="module")
def bom(
    key: SigningKey, trust: TrustPolicy, onnx_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    arguments = given.build_arguments(onnx_bytes, key)
    page = page_data.binary()
    arguments["evaluation"] = {**page["evaluation"], "measures": given.evaluation()["measures"]}
    arguments["model"] = replace(arguments["model"], diagnostics=page["fit"])
    arguments["cost"] = page["cost"]
    arguments["report"] = {"guard": page["guard"]}
    folder = tmp_path_factory.mktemp("bom") / "package"
    build(folder, **arguments)
    found: dict[str, Any] = json.loads(open_package(folder, trust).files["mlbom.cdx.json"])
    return found


def validator() -> Any:
    """Return a validator by the standard's schema; the schemas name each other by file name."""
    pytest.importorskip(
        "cyclonedx.schema", reason="the CycloneDX schemas (cyclonedx-python-lib) are not installed"
    )
    import jsonschema
    import referencing
    from referencing.jsonschema import DRAFT7

    folder = resources.files("cyclonedx.schema") / "_res"
    documents = {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in folder.iterdir()
        if path.name.endswith(".SNAPSHOT.schema.json")
    }
    registry: Any = referencing.Registry(
        retrieve=lambda uri: referencing.Resource.from_contents(documents[uri.rpartition("/")[2]], DRAFT7)
    )
    return jsonschema.Draft7Validator(documents["bom-1.7.SNAPSHOT.schema.json"], registry=registry)


def test_it_is_valid_by_the_standards_schema(bom: dict[str, Any], package: Package) -> None:
    check = validator()
    assert [error.message for error in check.iter_errors(bom)] == []
    assert [error.message for error in check.iter_errors(json.loads(package.files["mlbom.cdx.json"]))] == []
    assert list(check.iter_errors({**bom, "specVersion": 7})), "the check must be able to fail"


def looked_up(bom: Mapping[str, Any], path: str) -> Any:
    model = bom["metadata"]["component"]
    start: Any = {"modelCard": model["modelCard"], "data": bom["components"][0], **bom}
    for part in path.split("."):
        start = start[0] if isinstance(start, list) else start
        start = start.get(part) if isinstance(start, Mapping) else None
    return start


def test_at_least_95_percent_of_the_fields_are_told(bom: dict[str, Any]) -> None:
    empty = [path for path in ASKED if looked_up(bom, path) in (None, "", [], {})]
    assert 1 - len(empty) / len(ASKED) >= 0.95, empty


def test_every_hash_and_reference_leads_somewhere(bom: dict[str, Any], package: Package) -> None:
    model = bom["metadata"]["component"]
    known = {model["bom-ref"], *(item["bom-ref"] for item in bom["components"])}
    named = {item["ref"] for item in bom["dependencies"]}
    assert named == known
    assert all(set(item["dependsOn"]) <= known for item in bom["dependencies"])
    assert {item["ref"] for item in model["modelCard"]["modelParameters"]["datasets"]} <= known
    told = json.loads(package.files["mlbom.cdx.json"])["metadata"]["component"]
    digests = {name: entry.sha256 for name, entry in package.manifest.files.items()}
    assert told["hashes"] == [{"alg": "SHA-256", "content": digests["model.onnx"]}]
    for item in told["externalReferences"]:
        assert item["hashes"][0]["content"] == digests[item["url"]]


def test_metrics_carry_their_intervals_and_slices(bom: dict[str, Any]) -> None:
    metrics = bom["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0] == {
        "type": "roc_auc", "value": "0.91", "slice": "all sealed test rows",
        "confidenceInterval": {"lowerBound": "0.88", "upperBound": "0.94"},
    }  # fmt: skip
    assert [item["slice"] for item in metrics][-1] == "city = Bern"


def test_declared_energy_is_told_as_declared(bom: dict[str, Any]) -> None:
    considerations = bom["metadata"]["component"]["modelCard"]["considerations"]
    energy = considerations["environmentalConsiderations"]["energyConsumptions"][0]
    assert energy["activityEnergyCost"]["value"] == pytest.approx(40 / 3.6e6)
    assert energy["energyProviders"][0]["description"].startswith("declared")
