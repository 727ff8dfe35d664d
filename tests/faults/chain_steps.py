"""The steps of the chain that the fault tests kill: each notes when it begins and when it ends."""

import os
from pathlib import Path
from typing import Any

from modelworks.workflow.step import step


def note(params: dict[str, Any], line: str) -> None:
    """Append a line that survives the process."""
    handle = os.open(params["notes"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def _work(name: str, inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    note(params, f"begin {name}")
    text = "".join(path.read_text() for _, path in sorted(inputs.items()))
    (folder / "out.txt").write_text(f"{name}({text})" + "." * params.get("filler", 0))
    sum(range(200_000))
    note(params, f"end {name}")
    return {"length": len(text)}


@step(version=1, name="chain_ingest", outputs=("out.txt",))
def ingest(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    return _work("ingest", inputs, params, folder)


@step(version=1, name="chain_split", outputs=("out.txt",))
def split(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    return _work("split", inputs, params, folder)


@step(version=1, name="chain_fit", outputs=("out.txt",))
def fit(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    return _work(f"fit-{params['member']}", inputs, params, folder)


@step(version=1, name="chain_package", outputs=("out.txt",))
def package(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
    return _work("package", inputs, params, folder)
