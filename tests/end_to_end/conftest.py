"""A fresh installation per test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine

import modelworks

TABLES = Path(modelworks.__file__).parent / "examples_data"


@pytest.fixture
def mw(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


@pytest.fixture
def order_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "order.yaml"
        path.write_text(text.replace("TABLES", str(TABLES)))
        return path

    return write


@pytest.fixture
def tables() -> Path:
    return TABLES
