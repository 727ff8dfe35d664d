"""What this machine is: processor, memory, devices; asked without loading any heavy library."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelworks.compute.energy import EnergyMeter

_NVIDIA_FIELDS = ("index", "name", "memory.total", "driver_version", "uuid")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One accelerator.

    Attributes:
        index: Number the driver gives it.
        name: Product name.
        memory_mb: Device memory.
        driver: Driver version.
        uuid: The driver's unique name.
    """

    index: int
    name: str
    memory_mb: int
    driver: str
    uuid: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine is.

    Attributes:
        cpu: Processor model.
        cores: Cores this process may use.
        cores_total: Cores there are.
        features: Instruction sets that matter for inference.
        memory_mb: Memory this process may use: the machine's, or its control group's limit.
        system: Operating system and release.
        architecture: E.g. ``x86_64``.
        gpus: Accelerators the driver reports.
        energy: ``rapl`` if energy is measured, else ``declared``.
        onnxruntime: Version of ONNX Runtime, or empty.
    """

    cpu: str
    cores: int
    cores_total: int
    features: tuple[str, ...]
    memory_mb: int
    system: str
    architecture: str
    gpus: tuple[Gpu, ...]
    energy: str
    onnxruntime: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@functools.cache
def this_machine() -> Machine:
    """Return what this machine is; asked once per process."""
    cpu, flags = _processor()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
    return Machine(
        cpu=cpu,
        cores=usable_cores(),
        cores_total=os.cpu_count() or 1,
        features=tuple(name for name in wanted if name in flags),
        memory_mb=_memory_mb(),
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        gpus=gpus(),
        energy="rapl" if EnergyMeter().measures else "declared",
        onnxruntime=_version("onnxruntime"),
    )


def usable_cores() -> int:
    """Return the cores this process may use: its affinity, and its control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():
        count = min(count, max(1, int(quota[0]) // int(quota[1])))
    return count


def gpus() -> tuple[Gpu, ...]:
    """Return the accelerators NVIDIA's driver reports; none if there is no driver or it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, f"--query-gpu={','.join(_NVIDIA_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(answer.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Return the accelerators of ``nvidia-smi`` CSV lines: index, name, memory in MiB, driver, uuid."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == len(_NVIDIA_FIELDS) and fields[0].isdigit():
            # Devices that share memory with the processor report no number.
            memory = round(int(fields[2]) * 1.048576) if fields[2].isdigit() else 0
            found.append(
                Gpu(index=int(fields[0]), name=fields[1], memory_mb=memory, driver=fields[3], uuid=fields[4])
            )
    return tuple(found)


def _processor() -> tuple[str, frozenset[str]]:
    model, flags = platform.processor() or platform.machine(), frozenset[str]()
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() in ("flags", "Features"):
            flags = frozenset(value.split())
            break
    return model, flags


def _memory_mb() -> int:
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit():
        total = min(total, int(limit))
    return total // 10**6


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
