"""Built-in backbones sit the exam of plug-ins; the exam fails who deserves it; the template can be installed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from modelworks.algorithms.backbones.reference import PixelSource, TextShapeSource
from modelworks.algorithms.plugins import backbone_source
from modelworks.core.backbone import Backbone
from modelworks.testing import backbone_suite

NAMES = (
    "images.patches",
    "images.formula",
    "images.pixels",
    "text.ngrams",
    "text.shape",
    "series.kernels",
    "series.spectra",
    "series.moments",
)
TEMPLATE = Path(__file__).parents[2] / "examples" / "plugin_template"


@pytest.mark.parametrize("check", backbone_suite.CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_built_in_backbones(name: str, check: backbone_suite.Check) -> None:
    backbone_suite.run(check, backbone_source(name)())


@dataclass(frozen=True, kw_only=True)
class _Wrong:
    """A reference with one thing wrong."""

    name: str = "images.pixels"

    @property
    def card(self) -> Any:
        return PixelSource().card

    def make(self, samples: Any, seed: int) -> Backbone:
        made = PixelSource().make(samples, seed)
        if self.name == "width":
            return replace(made, width=made.width + 1)
        if self.name == "licence":
            return replace(made, licence="")
        return replace(TextShapeSource().make([], seed), name=made.name)


@pytest.mark.parametrize("wrong", ["width", "licence", "modality"])
def test_the_exam_fails_who_says_what_is_not_so(wrong: str) -> None:
    with pytest.raises(AssertionError):
        backbone_suite.run(backbone_suite.is_what_it_says, _Wrong(name=wrong))


@pytest.mark.slow
def test_the_template_is_built_installed_found_and_conforms(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="setuptools, which builds the template, is not installed")
    source = tmp_path / "source"
    source.mkdir()
    for file in TEMPLATE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    target = tmp_path / "installed"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*install, "--target", str(target), str(source)], check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    code = (
        "from modelworks.algorithms.plugins import backbone_source, backbones;"
        "assert backbones()['images.colour'].origin == 'modelworks-colour';"
        "from modelworks.testing import backbone_suite as suite;"
        "[suite.run(check, backbone_source('images.colour')()) for check in suite.CHECKS]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=environment, cwd=tmp_path)
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(source / "test_conformance.py"),
    ]
    subprocess.run(tests, check=True, timeout=300, env=environment, cwd=source)
