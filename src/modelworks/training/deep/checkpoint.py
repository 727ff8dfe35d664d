"""Checkpoints of training: one safetensors file of tensors and plain JSON, replaced in one step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelworks.core.errors import StorageError
from modelworks.storage.disk import Disk

FORMAT = 1
_STATE = "state"


def write_checkpoint(
    path: Path, tensors: dict[str, Any], state: dict[str, Any], disk: Disk | None = None
) -> None:
    """Write a checkpoint durably: a temporary name, fsync, rename, fsync of the folder.

    Args:
        path: The file that is replaced; its folder exists.
        tensors: Name -> torch tensor on any device.
        state: Plain JSON data.
        disk: Where it is written; tests put a failing one here.

    Raises:
        DiskFull: No space is left; the checkpoint before is untouched.
    """
    from safetensors.torch import save

    disk = disk or Disk()
    ready = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    data = save(ready, metadata={_STATE: json.dumps({"format": FORMAT, **state}, sort_keys=True)})
    draft = path.with_name(path.name + ".part")
    disk.unlink(draft)
    disk.write(draft, [data])
    disk.fsync(draft)
    disk.rename(draft, path)
    disk.fsync_dir(path.parent)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the tensors and the state of a checkpoint, or ``None`` if there is none.

    Raises:
        StorageError: The file is damaged or of another format.
    """
    if not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            state = json.loads((stored.metadata() or {})[_STATE])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise _unreadable(path, "it is damaged") from error
    if state.get("format") != FORMAT:
        raise _unreadable(path, f"its format is {state.get('format')}, not {FORMAT}")
    return tensors, state


def _unreadable(path: Path, why: str) -> StorageError:
    return StorageError(
        f"The checkpoint {path.name} cannot be used: {why}.",
        code="MW4060",
        where=str(path),
        hint=f"rm '{path}' and run the same command again; training starts from its beginning",
    )
