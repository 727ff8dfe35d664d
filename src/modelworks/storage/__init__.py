"""Artifacts by content and the catalog of everything that was recorded."""
