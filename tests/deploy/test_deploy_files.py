"""The files of ``deploy/``: what Helm renders and what is applied by hand is valid Kubernetes and starts a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelworks.control.serve_settings import serve_settings
from modelworks.control.settings import load_settings
from modelworks.serving.errors import UnsafeStart

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "modelworks"
VERSION = "1.31"


def helm() -> str:
    for name in (
        os.environ.get("MODELWORKS_HELM", ""),
        str(ROOT / ".tools" / "helm"),
        shutil.which("helm") or "",
    ):
        if name and Path(name).exists():
            return name
    pytest.skip("there is no helm here; scripts/helm puts one into .tools")


def render(*options: str) -> list[dict[str, Any]]:
    command = [helm(), "template", "test", str(CHART), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def validate(document: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        validator = pytest.importorskip("kubernetes_validate")
        validator.validate(document, VERSION, strict=True)


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["spec"]["template"]["spec"]["containers"]
    return found


def test_plain_manifests_are_valid_and_careful() -> None:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "modelworks.yaml").read_text()))
    assert [item["kind"] for item in documents] == [
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
    ]
    for document in documents:
        validate(document)
    careful(documents[0])


def careful(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounted = {item["name"] for item in container["volumeMounts"]}
    assert mounted == {item["name"] for item in pod["volumes"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        # The server answers no foreign Host, probes included.
        assert container[probe]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_a_broken_manifest_does_not_pass() -> None:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "modelworks.yaml").read_text()))
    documents[0]["spec"]["replicas"] = "two"
    validator = pytest.importorskip("kubernetes_validate")
    with pytest.raises(validator.ValidationError):
        validate(documents[0])


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ((), {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}),
        (
            ("--set", "autoscaling.enabled=true,networkPolicy.enabled=false,monitoring.scrape=true"),
            {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"},
        ),
        (
            ("--set", "tls.secret=,insecure=true,state.claim=kept,hostNames={models.example.org}"),
            {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"},
        ),
    ],
)  # fmt: skip
def test_the_chart_renders_valid_objects_and_settings_the_server_takes(
    options: tuple[str, ...], kinds: set[str], tmp_path: Path
) -> None:
    documents = render(*options)
    assert {item["kind"] for item in documents} == kinds
    by_kind = {item["kind"]: item for item in documents}
    for document in documents:
        validate(document)
    careful(by_kind["Deployment"])
    path = tmp_path / "modelworks.yaml"
    path.write_text(by_kind["ConfigMap"]["data"]["modelworks.yaml"])
    written = load_settings({"MODELWORKS_CONFIG": str(path)}, home=tmp_path).serving
    settings, _ = serve_settings(tmp_path, (), written, {}, {})
    assert settings.host == "0.0.0.0"
    assert settings.tls is not ("insecure=true" in str(options))
    assert settings.memory_mb == 1024
    assert "test-modelworks.default.svc" in settings.host_names
    assert ("models.example.org" in settings.host_names) is ("models.example.org" in str(options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "tls.secret="), "tls.secret is empty"),
        (("--set", "replicas=0"), "replicas"),
        (("--set", "nonsense=1"), "nonsense"),
    ],
)
def test_the_chart_refuses_values_that_cannot_work(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render(*options)


def test_the_kserve_runtime_starts_the_server_with_options_it_has(tmp_path: Path) -> None:
    runtime = yaml.safe_load((DEPLOY / "kserve" / "servingruntime.yaml").read_text())
    service = yaml.safe_load((DEPLOY / "kserve" / "inferenceservice.yaml").read_text())
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]
    formats = {item["name"] for item in runtime["spec"]["supportedModelFormats"]}
    assert service["spec"]["predictor"]["model"]["modelFormat"]["name"] in formats
    spec = {"containers": runtime["spec"]["containers"], "volumes": runtime["spec"]["volumes"]}
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test"}, "spec": spec})
    (container,) = runtime["spec"]["containers"]
    given = [item.replace("{{.Name}}", "churn") for item in container["args"]]
    assert given[0] == "/mnt/models"
    given[0] = str(tmp_path)
    shown = _start(*given, "--dry-run", "--json", home=tmp_path)
    settings = yaml.safe_load(shown)
    assert settings["name"]["value"] == "churn"
    assert settings["host"]["value"] == "0.0.0.0"
    with pytest.raises(UnsafeStart):
        serve_settings(tmp_path, (), {}, {}, {"host": "0.0.0.0"})


def _start(*arguments: str, home: Path) -> str:
    """Run the image's own entry point with the ``mw`` of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(DEPLOY / "docker" / "start"), *arguments],
        env={**os.environ, "PATH": path, "MODELWORKS_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
