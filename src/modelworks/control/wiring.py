"""The one place that picks implementations: which executor runs a job and how a remote source tells its state."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modelworks.control.settings import Settings

if TYPE_CHECKING:
    from modelworks.compute.process import ProcessExecutor

PRELOAD = ("modelworks.production.steps", "modelworks.production.warm")


def cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots_for(settings: Settings, tasks: int) -> int:
    """Return how many jobs run side by side: all cores for an order, one worker for a single task."""
    return max(1, min(settings.slots or cores(), tasks))


def executor_for(slots: int) -> ProcessExecutor:
    """Return the executor of an order.

    Steps always run in worker processes: a crash, a runaway or a file that kills its parser ends one job alone,
    and the command line itself never loads the heavy libraries.
    """
    from modelworks.compute.process import ProcessExecutor

    return ProcessExecutor(slots, preload=PRELOAD)


def stamp_of(source: str) -> str:
    """Return something that changes when a remote source changes, as far as its file system can tell.

    Raises:
        DataError: The source cannot be reached.
    """
    import time

    from modelworks.core.errors import DataError, MissingExtra

    scheme = source.split("://", 1)[0].split("+", 1)[0]
    if scheme in {"postgresql", "sqlite", "mysql", "mariadb", "oracle", "mssql", "duckdb"}:
        # A query has no state that could be asked for: it is read once per run.
        return f"read at {time.time():.0f}"
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(os.path.expandvars(source))
        return str(system.ukey(path))
    except ImportError:
        raise MissingExtra.named(f"Reading {scheme}://", "s3" if scheme == "s3" else scheme) from None
    except (OSError, ValueError) as error:
        raise DataError(f"The source cannot be reached: {error}.", code="MW1195", where=source) from None
