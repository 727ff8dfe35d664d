"""The smallest thing that runs: the graph, the manifest that names its columns, and a readable script."""

from __future__ import annotations

from modelworks.core.signature import TOKENIZER
from modelworks.packaging.manifest import MANIFEST, MODEL, PREDICT
from modelworks.packaging.package import Package


def predict_files(package: Package) -> dict[str, bytes]:
    """Return the files of a folder in which ``python predict.py rows.csv`` works."""
    names = (MODEL, MANIFEST, PREDICT, *([TOKENIZER] if package.signature.tokenizer is not None else []))
    needed = b"numpy\nonnxruntime\n" + (b"tokenizers\n" if TOKENIZER in names else b"")
    return {**{name: package.files[name] for name in names}, "requirements.txt": needed}
