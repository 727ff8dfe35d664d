"""Algorithms: estimators whose fitted models are ONNX graphs, and the registry that finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelworks.algorithms.plugins import registry
    from modelworks.algorithms.tables.baselines import fit_baselines
    from modelworks.algorithms.tables.recipe import TableRecipe

__all__ = ["TableRecipe", "fit_baselines", "registry"]

_HOMES = {
    "TableRecipe": "modelworks.algorithms.tables.recipe",
    "fit_baselines": "modelworks.algorithms.tables.baselines",
    "registry": "modelworks.algorithms.plugins",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
