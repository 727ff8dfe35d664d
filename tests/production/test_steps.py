"""Whoever changes what a step does must change its version, or old results would be taken for new ones."""

from __future__ import annotations

import os
from pathlib import Path

from modelworks.workflow.step import record_sources, stale_versions

RECORDED = Path(__file__).parent / "step_sources.json"
MODULES = ["modelworks.production.steps"]


def test_a_step_that_changed_has_a_new_version() -> None:
    """Run with MODELWORKS_RECORD_STEPS=1 after changing the version (or a layout that changes no result)."""
    if os.environ.get("MODELWORKS_RECORD_STEPS"):
        record_sources(RECORDED, MODULES)
    assert stale_versions(RECORDED, MODULES) == []


def test_the_check_sees_a_changed_source(tmp_path: Path) -> None:
    copy = tmp_path / "steps.json"
    copy.write_text(RECORDED.read_text().replace('"source": "', '"source": "0', 1))
    (problem,) = stale_versions(copy, MODULES)
    assert "changed its source and kept version" in problem
