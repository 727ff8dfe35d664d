"""The door to PyTorch: found or named as missing, set to give equal results, and asked what the device can do."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

from modelworks.core.errors import MissingExtra

EXTRA = "torch"


def torch_is_here() -> bool:
    """Say whether PyTorch can be imported, without importing it."""
    return importlib.util.find_spec("torch") is not None


def load_torch(what: str = "Training a network") -> Any:
    """Return the module ``torch``.

    Raises:
        MissingExtra: PyTorch is not installed; names the command that installs it.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtra.named(what, EXTRA) from error
    return torch


def pick_device(wanted: str = "auto") -> str:
    """Return ``cuda`` where a device is visible and wanted, else ``cpu``."""
    torch = load_torch()
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def pick_precision(wanted: str, device: str) -> str:
    """Return ``bf16`` or ``fp32``.

    ``auto`` takes bf16 where the hardware multiplies it: on CUDA devices that support it, on processors with AMX.
    (AVX-512 bf16 alone was measured at 1.1 times FP32 at best and slower for narrow networks.)
    """
    if wanted != "auto":
        return wanted
    torch = load_torch()
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bf16" if has_tiles() else "fp32"


@contextlib.contextmanager
def repeatable(threads: int, device: str) -> Iterator[Any]:
    """Make PyTorch give equal bits for equal seeds inside the block, and leave its state as it was.

    Args:
        threads: Threads of one operation; sums are taken in an order that depends on it.
        device: ``cpu`` or ``cuda``; on CUDA an operation without a repeatable form only warns.
    """
    torch = load_torch()
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic.*")
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
        try:
            yield torch
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1], warn_only=before[2])
