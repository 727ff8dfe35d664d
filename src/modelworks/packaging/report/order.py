"""The report of an order."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any


def render_order_report(data: Mapping[str, Any]) -> str:
    """Return the static HTML report of an order; see ``packaging.report`` for the data."""
    title = escape(str(data.get("title", "order")))
    return f"<!doctype html><title>{title}</title>"
