"""What a package is, in one screen of plain data."""

from __future__ import annotations

from typing import Any

from modelworks.packaging.inspection import GraphLimits, inspect_bytes
from modelworks.packaging.package import Package


def show(package: Package) -> dict[str, Any]:
    """Return the package's manifest with what is read off the package itself (digest, signer, operators, sizes)."""
    return {
        "digest": package.digest,
        "signed_by": package.signed_by or None,
        **package.manifest.to_json(),
        "graph": inspect_bytes(package.onnx, GraphLimits()),
        "bytes": sum(len(data) for data in package.files.values()),
    }
