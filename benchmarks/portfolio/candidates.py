"""The candidate members: one base configuration of boosted trees, varied along every axis, and additive models."""

from __future__ import annotations

import itertools
from typing import Any

Settings = dict[str, float | int | bool | str]

BASE: Settings = {
    "learning_rate": 0.05,
    "num_leaves": 16,
    "min_data_in_leaf": 8,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.85,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
}


def _grid() -> dict[str, Settings]:
    found: dict[str, Settings] = {}
    for leaves, least, extra in itertools.product((4, 8, 16, 31), (4, 16), (False, True)):
        name = f"l{leaves}-m{least}" + ("-extra" if extra else "")
        found[name] = {**BASE, "num_leaves": leaves, "min_data_in_leaf": least, "extra_trees": extra}
    return found


BOOSTED: dict[str, Settings] = {
    **_grid(),
    "base-rate03": {**BASE, "learning_rate": 0.03},
    "base-rate10": {**BASE, "learning_rate": 0.1},
    "base-columns30": {**BASE, "feature_fraction": 0.3},
    "base-columns100": {**BASE, "feature_fraction": 1.0},
    "base-nobag": {**BASE, "bagging_freq": 0, "bagging_fraction": 1.0},
    "base-l2-10": {**BASE, "lambda_l2": 10.0},
    "base-l2-01": {**BASE, "lambda_l2": 0.1},
    "base-smooth": {**BASE, "path_smooth": 10.0},
    "base-bins63": {**BASE, "max_bin": 63},
    "stumps": {**BASE, "num_leaves": 2, "learning_rate": 0.1},
    "deep": {**BASE, "num_leaves": 63, "min_data_in_leaf": 16},
    "deep-extra": {**BASE, "num_leaves": 127, "min_data_in_leaf": 3, "extra_trees": True},
    "extra-columns100": {**BASE, "extra_trees": True, "feature_fraction": 1.0, "num_leaves": 31},
    "node-columns30": {**BASE, "feature_fraction": 1.0, "feature_fraction_bynode": 0.3},
    "node-columns30-extra": {
        **BASE,
        "feature_fraction": 1.0,
        "feature_fraction_bynode": 0.3,
        "extra_trees": True,
        "num_leaves": 31,
    },
}
"""LightGBM settings by candidate name; early stopping and at most 2,000 rounds for all."""

FORESTS: dict[str, Settings] = {
    f"forest-m{least}" + ("-extra" if extra else ""): {
        "boosting": "rf",
        "num_leaves": 512,
        "min_data_in_leaf": least,
        "bagging_fraction": 0.632,
        "bagging_freq": 1,
        "feature_fraction_bynode": 0.4,
        "extra_trees": extra,
        "lambda_l2": 0.0,
    }
    for least, extra in itertools.product((2, 5), (False, True))
}
"""Bagged trees for regression, a fixed number of them (LightGBM's forest has no useful class scores)."""

FOREST_ROUNDS = 150
LINEAR = "linear"


def everything() -> list[tuple[str, str, Settings]]:
    """Return ``(name, family, settings)`` of every candidate."""
    return [
        (LINEAR, "linear", {}),
        *((name, "boosted", settings) for name, settings in BOOSTED.items()),
        *((name, "forest", settings) for name, settings in FORESTS.items()),
    ]


def describe(name: str) -> dict[str, Any]:
    """Return the settings of one candidate."""
    return next(settings for key, _, settings in everything() if key == name)
