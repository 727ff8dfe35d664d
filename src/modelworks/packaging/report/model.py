"""The report of one model."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any


def render_model_report(data: Mapping[str, Any]) -> str:
    """Return the static HTML report of one model; see ``packaging.report`` for the data."""
    title = escape(str(data.get("title", "model")))
    return f"<!doctype html><title>{title}</title>"
