"""The child that parses untrusted bytes: bounds itself, then imports as little as it can.

Started as a script by ``isolation``; reads one job as JSON from standard input, answers on standard output.
"""

import json
import sys
from pathlib import Path
from typing import Any

OPEN_FILES = 64


def bound(limits: dict[str, Any]) -> None:
    """Bound memory, CPU time, open files and core dumps of this process."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's deadline still holds.
        return
    memory = int(limits["memory_mb"]) * 2**20
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(limits["cpu_s"])),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (wanted, hard if kind == resource.RLIMIT_CPU else wanted))


def main() -> None:
    """Answer one job with ``{"value": ...}`` or ``{"error": ...}``."""
    job = json.loads(sys.stdin.buffer.read())
    bound(job["options"]["limits"])
    sys.path.extend(job["import_from"])
    # pyarrow works without numpy, and half of the start-up time is numpy's.
    sys.modules["numpy"] = None  # type: ignore[assignment]
    from modelworks.core.errors import ModelworksError
    from modelworks.data.options import ReadOptions
    from modelworks.data.parsing import parse_file

    options = ReadOptions.from_json(job["options"])
    try:
        answer = {"value": parse_file(Path(job["path"]), job["name"], options, Path(job["folder"]))}
    except ModelworksError as error:
        answer = {"error": error.to_json()}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
