"""Modelworks: an AI factory that a few people can run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from modelworks.core.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from modelworks.control.api import Model, Order, Result, load, order, produce
    from modelworks.control.service import Service
    from modelworks.control.serving_api import Server, deploy, serve
    from modelworks.control.settings import Settings
    from modelworks.core.errors import (
        DataError,
        InputError,
        LimitError,
        ModelworksError,
        TaskError,
        TrustError,
    )
    from modelworks.core.schema import ColumnKind
    from modelworks.core.task import TaskKind
    from modelworks.core.verdict import Check, Measure, Verdict, VerdictKind
    from modelworks.serving.client import Client

_HOMES = {
    "Check": "core.verdict",
    "Client": "serving.client",
    "ColumnKind": "core.schema",
    "DataError": "core.errors",
    "InputError": "core.errors",
    "LimitError": "core.errors",
    "Measure": "core.verdict",
    "Model": "control.api",
    "ModelworksError": "core.errors",
    "Order": "control.api",
    "Result": "control.api",
    "Server": "control.serving_api",
    "Service": "control.service",
    "Settings": "control.settings",
    "TaskError": "core.errors",
    "TaskKind": "core.task",
    "TrustError": "core.errors",
    "Verdict": "core.verdict",
    "VerdictKind": "core.verdict",
    "deploy": "control.serving_api",
    "load": "control.api",
    "order": "control.api",
    "produce": "control.api",
    "serve": "control.serving_api",
}

__all__ = [
    "Check",
    "Client",
    "ColumnKind",
    "DataError",
    "InputError",
    "LimitError",
    "Measure",
    "Model",
    "ModelworksError",
    "Order",
    "Result",
    "Server",
    "Service",
    "Settings",
    "TaskError",
    "TaskKind",
    "TrustError",
    "Verdict",
    "VerdictKind",
    "__version__",
    "deploy",
    "load",
    "order",
    "produce",
    "serve",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'modelworks' has no attribute '{name}'")
    return getattr(importlib.import_module(f"modelworks.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
