"""Parsing in a limited child: a crash, a bomb or a hang of a parser costs that file only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from modelworks.core.errors import DataError, LimitError, ModelworksError
from modelworks.data.options import ReadOptions

_CHILD = Path(__file__).with_name("child.py")
_PACKAGE = Path(__file__).parents[2]


def parse_in_child(path: Path, name: str, options: ReadOptions, folder: Path) -> dict[str, Any]:
    """Run ``parsing.parse_file`` in a child with bounds on memory, CPU time, open files and elapsed time.

    The child inherits no secrets (a bare environment) and no open file but its three pipes.

    Raises:
        DataError: The bytes cannot be read, or the parser crashed on them.
        LimitError: A limit was reached.
    """
    job = {
        "path": str(path.resolve()),
        "name": name,
        "options": options.to_json(),
        "folder": str(folder.resolve()),
        "import_from": [str(_PACKAGE), *(entry for entry in sys.path if entry.endswith("-packages"))],
    }
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
        start_new_session=True,
        cwd=folder,
    )
    try:
        answer, complaint = child.communicate(json.dumps(job).encode(), timeout=options.limits.wall_s)
    except subprocess.TimeoutExpired:
        raise LimitError(
            f"Reading '{name}' took more than {options.limits.wall_s} s and was ended.",
            code="MW2016",
            where=name,
            hint="take a sample, or raise the limit 'wall_s'",
        ) from None
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    return _answer(child.returncode, answer, complaint, name, options)


def _answer(code: int, answer: bytes, complaint: bytes, name: str, options: ReadOptions) -> dict[str, Any]:
    try:
        result = json.loads(answer)
    except ValueError:
        result = {}
    if "error" in result:
        raise ModelworksError.from_json(result["error"])
    if "value" in result:
        value: dict[str, Any] = result["value"]
        return value
    if code == -getattr(signal, "SIGXCPU", 24):
        raise LimitError(
            f"Reading '{name}' took more than {options.limits.cpu_s} CPU-seconds and was ended.",
            code="MW2016",
            where=name,
            hint="take a sample, or raise the limit 'cpu_s'",
        )
    if b"MemoryError" in complaint or b"bad_alloc" in complaint or b"ArrowMemoryError" in complaint:
        raise _too_much_memory(name, options)
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    raise DataError(
        f"The parser crashed on '{name}' ({how}); the file is damaged or hostile.",
        code="MW1130",
        where=name,
        hint="write the file again from its source",
    )


def _too_much_memory(name: str, options: ReadOptions) -> LimitError:
    return LimitError(
        f"Reading '{name}' needs more than {options.limits.memory_mb:,} MB of memory.",
        code="MW2017",
        where=name,
        hint="take a sample, or raise the limit 'memory_mb'",
    )
