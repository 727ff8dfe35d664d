"""The model card: front matter that parses as YAML whatever the names hold, and Markdown without HTML in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import package_arguments as given
import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import given as over
from hypothesis import strategies as st

from modelworks.core.schema import Column, ColumnKind
from modelworks.packaging import Package, SigningKey, build
from modelworks.packaging.card import write_card


def parts(card: str) -> tuple[dict[str, Any], str]:
    assert card.startswith("---\n")
    front, body = card[4:].split("\n---\n", 1)
    return yaml.safe_load(front), body


def test_hubs_find_task_licence_and_results(package: Package) -> None:
    front, body = parts(package.files["card.md"].decode())
    assert front["pipeline_tag"] == "tabular-classification" and front["library_name"] == "onnx"
    (index,) = front["model-index"]
    (result,) = index["results"]
    assert index["name"] == "churn"
    assert result["task"]["type"] == "tabular-classification"
    assert result["dataset"]["revision"] == "ab" * 32
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "roc_auc": 0.91,
        "log_loss": 0.31,
    }
    for heading in ("Intended use", "Data", "Metrics", "Slices", "Limits and warnings", "Use", "Making"):
        assert f"## {heading}\n" in body
    assert "0.88 to 0.94" in body and "city=Bern" in body


def test_hubs_own_reader_takes_it(package: Package) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    card = hub.ModelCard(package.files["card.md"].decode())
    assert card.data.eval_results[0].metric_value == 0.91


HOSTILE = [
    "</script><script>alert(1)</script>",
    "x\n---\nlicense: evil\n---\n",
    "`${7*7}`",
    "| a | b |",
    "[x](javascript:alert(1))",
    "!![](x)",
    "# no",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_texts(text: str, onnx_bytes: bytes, key: SigningKey, tmp_path: Path) -> None:
    arguments = given.build_arguments(onnx_bytes, key)
    arguments["verdict"] = replace(given.VERDICT, cause=text)
    arguments["lineage"] = {
        "dataset": {"digest": "ab" * 32, "name": text, "licence": text},
        "recipe": {"name": text},
    }
    arguments["report"] = {"guard": [{"severity": text, "message": text}]}
    arguments["evaluation"] = {
        **given.evaluation(),
        "slices": [{"slice": text, "n": 3, "value": 1.0, "low": 0.0, "high": 1.0}],
    }
    build(tmp_path / "p", **arguments)
    front, body = parts((tmp_path / "p" / "card.md").read_text(encoding="utf-8"))
    assert front["license"] != "evil"
    unquoted = "".join(body.split("`")[::2])
    assert "<" not in unquoted and "](" not in unquoted.replace("\\]", "").replace("\\[", "")
    assert [line for line in body.splitlines() if line.startswith("# ")] == ["# churn"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@over(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_leaves_the_front_matter_whole(package: Package, text: str) -> None:
    manifest = {**package.manifest.to_json(), "name": text}
    manifest["columns"] = [Column(name=text, kind=ColumnKind.TEXT).to_json()]
    manifest["dataset"] = {**package.manifest.dataset, "name": text}
    front, _ = parts(write_card(manifest, given.evaluation(), [{"message": text}]))
    assert front["model-index"][0]["name"] == text
    assert set(front) == {"license", "library_name", "pipeline_tag", "tags", "model-index"}
