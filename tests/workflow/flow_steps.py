"""Steps of the workflow tests. Each counts its runs in a folder named by its parameters."""

import os
import time
import uuid
from pathlib import Path
from typing import Any

from modelworks.core.errors import DataError, DiskFull
from modelworks.core.job import Resources
from modelworks.workflow.step import step


def _count(params: dict[str, Any], name: str) -> None:
    if "counter" in params:
        Path(params["counter"], f"{name}.{uuid.uuid4().hex}").touch()


def runs(folder: Path, name: str) -> int:
    """Return how often a step ran."""
    return len(list(folder.glob(f"{name}.*")))


@step(version=1, outputs=("text.txt",))
def upper(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    _count(params, "upper")
    text = inputs["text"].read_text()
    (folder / "text.txt").write_text(text.upper() + params.get("tail", ""))
    return {"length": len(text)}


@step(version=1)
def join(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    _count(params, "join")
    parts = []
    for name in sorted(inputs):
        source = inputs[name]
        files = sorted(source.rglob("*")) if source.is_dir() else [source]
        parts += [item.read_text() for item in files if item.is_file()]
    (folder / "deep").mkdir()
    (folder / "deep" / "joined.txt").write_text("+".join(parts))
    return parts


@step(version=1)
def fail(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    _count(params, "fail")
    raise DataError("The column is empty.", code="MW1106", hint="exclude: [age]")


@step(version=1, outputs=("promised.txt",))
def forgetful(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    return None


@step(version=1)
def crash(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    """Crash until it has run ``times`` times."""
    _count(params, "crash")
    if runs(Path(params["counter"]), "crash") <= params["times"]:
        os._exit(7)
    return "well"


@step(version=1, resources=Resources(memory_mb=150))
def greedy(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    _count(params, "greedy")
    taken = []
    for _ in range(200):
        taken.append(bytearray(b"x") * 10_000_000)
        time.sleep(0.01)
    return len(taken)


@step(version=1)
def full(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    raise DiskFull("The disk is full.")


@step(version=1)
def slow(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    _count(params, "slow")
    (folder / "begun").touch()
    time.sleep(params["wall_s"])
    return params["wall_s"]


@step(version=1)
def edit(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    """Change the own input while reading it, as a careless neighbour would."""
    inputs["text"].write_text("changed meanwhile")
    return 1


@step(version=1)
def remember_order(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    return time.time_ns()
