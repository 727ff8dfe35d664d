"""Packages: signed folders that outlive us, checked at every load; exports, comparisons and static reports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelworks.packaging.builder import build
    from modelworks.packaging.difference import diff, diff_text
    from modelworks.packaging.exporters import export, pack, unpack
    from modelworks.packaging.inspection import GraphLimits
    from modelworks.packaging.keys import SigningKey, trust_key_file, trusted_keys
    from modelworks.packaging.manifest import Manifest
    from modelworks.packaging.overview import show
    from modelworks.packaging.package import Package, TrustPolicy, open_package
    from modelworks.packaging.replay import Replayed, ReplayLimits, inspect_graph
    from modelworks.packaging.report import render_explanation, render_model_report, render_order_report

_HOMES = {
    "build": "builder", "diff": "difference", "diff_text": "difference", "export": "exporters", "pack": "exporters",
    "unpack": "exporters", "GraphLimits": "inspection", "SigningKey": "keys", "trust_key_file": "keys",
    "trusted_keys": "keys", "Manifest": "manifest", "show": "overview", "Package": "package", "TrustPolicy": "package",
    "open_package": "package", "ReplayLimits": "replay", "Replayed": "replay", "inspect_graph": "replay",
    "render_explanation": "report", "render_model_report": "report", "render_order_report": "report",
}  # fmt: skip

__all__ = [
    "GraphLimits",
    "Manifest",
    "Package",
    "ReplayLimits",
    "Replayed",
    "SigningKey",
    "TrustPolicy",
    "build",
    "diff",
    "diff_text",
    "export",
    "inspect_graph",
    "open_package",
    "pack",
    "render_explanation",
    "render_model_report",
    "render_order_report",
    "show",
    "trust_key_file",
    "trusted_keys",
    "unpack",
]


def __getattr__(name: str) -> Any:
    """Load a name from the file that holds it; the limited child imports this room without paying for all of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
