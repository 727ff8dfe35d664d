"""Jobs and executors: one contract for running a function here, in a warm process or on a cluster."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one job may use; going over ends that job alone.

    Attributes:
        cpus: Cores it is planned on.
        memory_mb: Resident memory.
        wall_s: Elapsed seconds.
        cpu_s: CPU-seconds.
        gpus: Devices it is planned on.
    """

    cpus: float = 1.0
    memory_mb: int = 4096
    wall_s: float = 3600.0
    cpu_s: float = 3600.0
    gpus: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One function call that is safe to run twice.

    Attributes:
        id: Unique name; the same id is the same work.
        function: Import path ``package.module:function``; called as
            ``function(inputs, params, folder)`` and returns plain JSON data.
        inputs: Name -> file or folder to read; must not be changed.
        params: Plain JSON data.
        folder: Empty folder of this attempt for output files.
        resources: Limits of this job.
    """

    id: str
    function: str
    inputs: dict[str, Path]
    params: dict[str, Any]
    folder: Path
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an attempt used.

    Attributes:
        cpu_s: User and system CPU-seconds of the job and its children.
        wall_s: Elapsed seconds.
        peak_mb: Peak resident memory, MB.
        gpu_s: Device-seconds.
        energy_j: Joules.
        energy_source: ``rapl`` (measured), ``declared`` or ``none``.
    """

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0
    gpu_s: float = 0.0
    energy_j: float = 0.0
    energy_source: str = "none"


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """How a job ended.

    Attributes:
        id: The job's id.
        value: What the function returned (plain JSON data), or ``None``.
        error: ``ModelworksError.to_json()`` of the failure, or ``None``.
        usage: What it used, also when it failed.
    """

    id: str
    value: Any = None
    error: dict[str, Any] | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One row of the ledger: one try at one step, however it ended.

    Attributes:
        id: Unique name of the try.
        run: Run it belongs to.
        step: Step name.
        key: Content key of the step call.
        label: Task that asked first.
        number: 1 for the first try of this key in this run.
        status: ``running``, ``done``, ``failed``, ``cancelled`` or ``lost`` (its run died).
        usage: What it used.
        error: ``ModelworksError.to_json()`` of the failure.
        started, ended: Wall-clock seconds since 1970.
    """

    id: str
    run: str
    step: str
    key: str
    label: str = ""
    number: int = 1
    status: str = "running"
    usage: Usage = field(default_factory=Usage)
    error: dict[str, Any] | None = None
    started: float = 0.0
    ended: float = 0.0


class Executor(Protocol):
    """Runs jobs. Implementations pass ``modelworks.testing.executor_suite``."""

    def submit(self, job: Job) -> None:
        """Queue a job; returns at once."""
        ...

    def wait(self, timeout_s: float | None = None) -> Sequence[JobResult]:
        """Return the jobs that ended since the last call; waits for at least one up to ``timeout_s``."""
        ...

    def cancel(self, job_id: str) -> None:
        """End a job; it is reported as ``Cancelled``."""
        ...

    @property
    def slots(self) -> int:
        """How many one-core jobs run side by side."""
        ...

    @property
    def isolates(self) -> bool:
        """Whether a job runs in a process of its own, so that limits and crashes end it alone."""
        ...

    @property
    def overhead_cpu_s(self) -> float:
        """CPU-seconds of the executor's own processes that no job was charged for."""
        ...

    def close(self) -> None:
        """End everything that runs and free all processes."""
        ...


JobFunction = Callable[[dict[str, Path], dict[str, Any], Path], Any]


def note_usage(folder: Path, usage: Usage) -> None:
    """Note what the unfinished attempt writing into ``folder`` has used so far, in a file beside the folder.

    If the engine is killed, this is what its next start charges for the lost attempt.
    """
    target = _usage_file(folder)
    temporary = target.with_suffix(".part")
    # The attempt may have ended a moment ago, and its folder may be gone.
    with contextlib.suppress(FileNotFoundError):
        temporary.write_text(json.dumps(asdict(usage)), encoding="utf-8")
        temporary.replace(target)


def noted_usage(folder: Path) -> Usage | None:
    """Return the last noted usage of the attempt that wrote into ``folder``, if there is one."""
    try:
        return Usage(**json.loads(_usage_file(folder).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def forget_usage(folder: Path) -> None:
    """Remove the note of an attempt that has ended."""
    _usage_file(folder).unlink(missing_ok=True)


def _usage_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".usage.json")
