"""Small real packages for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from package_arguments import build_arguments
from package_graphs import table_graph

from modelworks.packaging import Package, SigningKey, TrustPolicy, build, open_package


@pytest.fixture(scope="session")
def onnx_bytes() -> bytes:
    return table_graph().SerializeToString(deterministic=True)


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.from_seed(bytes(range(32)))


@pytest.fixture(scope="session")
def trust(key: SigningKey) -> TrustPolicy:
    return TrustPolicy(keys={key.id: key.public})


@pytest.fixture(scope="session")
def package_folder(tmp_path_factory: pytest.TempPathFactory, onnx_bytes: bytes, key: SigningKey) -> Path:
    folder = tmp_path_factory.mktemp("packages") / "churn"
    build(folder, **build_arguments(onnx_bytes, key))
    return folder


@pytest.fixture(scope="session")
def package(package_folder: Path, trust: TrustPolicy) -> Package:
    return open_package(package_folder, trust)


@pytest.fixture
def copy_package(package_folder: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return a function that makes a fresh copy to damage."""
    made = 0

    def copy() -> Path:
        nonlocal made
        made += 1
        target = tmp_path / f"copy{made}"
        target.mkdir()
        for path in package_folder.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return target

    return copy
