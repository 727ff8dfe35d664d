"""The methods that are compared; each is one class with the same five verbs (see ``contract.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.accuracy.methods.contract import Method


def make(name: str) -> Method:
    """Return the method called ``name``; ``family@seconds`` sets a limit in CPU-seconds."""
    family, _, limit = name.partition("@")
    if family in ("linear", "hgb"):
        from benchmarks.accuracy.methods import scikit

        return scikit.Linear() if family == "linear" else scikit.HistGradientBoosting()
    if family in ("lgbm_es", "catboost", "flaml"):
        from benchmarks.accuracy.methods import boosters

        if family == "flaml":
            return boosters.Flaml(float(limit))
        return boosters.LightGbm() if family == "lgbm_es" else boosters.CatBoost()
    if family in ("ag_medium", "ag_good", "ag_best"):
        from benchmarks.accuracy.methods import autogluon

        return autogluon.AutoGluon(family, float(limit))
    if family == "modelworks":
        from benchmarks.accuracy.methods import product

        return product.Modelworks()
    raise KeyError(f"unknown method {name!r}")
