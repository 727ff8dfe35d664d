"""Packages on disk as model sources: found by folder, verified again at every load."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from modelworks.core.errors import UsageError
from modelworks.core.signature import Signature
from modelworks.packaging.manifest import EXAMPLES, MANIFEST, MODEL, FileEntry
from modelworks.packaging.package import TrustPolicy, open_package, parse_examples, read_again
from modelworks.serving.model import LoadedModel


@dataclass(frozen=True, kw_only=True)
class PackageSource:
    """A package in a folder or ``.mwpkg`` file.

    Attributes:
        path: Where it is.
        trust: Whose signature is accepted, at the first look and at every load.
        listed: What its manifest lists; the manifest is known by its digest and not parsed again.
    """

    name: str
    digest: str
    signature: Signature
    graph_bytes: int
    path: Path
    trust: TrustPolicy
    listed: Mapping[str, FileEntry] = field(repr=False)

    @property
    def place(self) -> str:
        return str(self.path)

    def read(self) -> LoadedModel:
        files = read_again(self.path, self.trust, self.digest, self.listed)
        return LoadedModel(onnx=files[MODEL], examples=_Examples(files[EXAMPLES]))


class _Examples(Mapping[str, Any]):
    """The golden examples of a package, parsed when they are looked into: a model that comes back needs none."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        return parse_examples(self._data)

    def __getitem__(self, key: str) -> Any:
        return self._parsed[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed)

    def __len__(self) -> int:
        return len(self._parsed)


def package_source(path: Path, trust: TrustPolicy) -> PackageSource:
    """Verify a package and return it as a source.

    Raises:
        TrustError: It is not a package whose bytes and signature hold.
    """
    package = open_package(path, trust)
    return PackageSource(
        name=package.manifest.name,
        digest=package.digest,
        signature=package.signature,
        graph_bytes=package.manifest.files[MODEL].size,
        path=path.resolve(),
        trust=trust,
        listed=package.manifest.files,
    )


def find_packages(paths: list[Path]) -> Iterator[Path]:
    """Yield every package at or directly inside ``paths``, in name order.

    Raises:
        UsageError: A path holds no package.
    """
    for path in paths:
        if path.suffix == ".mwpkg" or (path / MANIFEST).is_file():
            yield path
            continue
        found = [
            child
            for child in (sorted(path.iterdir()) if path.is_dir() else [])
            if child.suffix == ".mwpkg" or (child / MANIFEST).is_file()
        ]
        if not found:
            raise UsageError(
                f"There is no package at {path}.", code="MW1311", hint="mw produce makes packages"
            )
        yield from found


def created(path: Path) -> str:
    """Return when a package folder says it was made ("" if it does not say); only used to order versions."""
    try:
        return str(json.loads((path / MANIFEST).read_bytes()).get("created", ""))
    except (OSError, ValueError, AttributeError):
        return ""
