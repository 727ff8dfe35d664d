"""Opening a package: what was signed opens and answers."""

from __future__ import annotations

from modelworks.packaging import Package


def test_a_built_package_opens_and_replays(package: Package) -> None:
    replayed = package.verify()
    assert replayed.rows == 6
    assert replayed.graph["operators"]["ai.onnx.ml.LabelEncoder"] == 2
