"""The smallest thing that runs: the graph, the manifest that names its columns, and a readable script."""

from __future__ import annotations

from modelworks.packaging.manifest import MANIFEST, MODEL, PREDICT
from modelworks.packaging.package import Package


def predict_files(package: Package) -> dict[str, bytes]:
    """Return the files of a folder in which ``python predict.py rows.csv`` works."""
    files = {name: package.files[name] for name in (MODEL, MANIFEST, PREDICT)}
    return {**files, "requirements.txt": b"numpy\nonnxruntime\n"}
