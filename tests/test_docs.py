"""The documentation builds without a warning, its links lead somewhere, and the schema it shows is the real one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def test_every_link_of_the_pages_leads_somewhere() -> None:
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
    assert len(pages) > 10
    missing = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert missing == []


def test_the_published_schema_is_the_one_that_orders_are_checked_by() -> None:
    shown = (DOCS / "reference" / "order.schema.json").read_bytes()
    assert shown == (ROOT / "src" / "modelworks" / "production" / "order.schema.json").read_bytes()


def test_the_page_of_the_schema_names_every_field() -> None:
    schema = json.loads((DOCS / "reference" / "order.schema.json").read_text(encoding="utf-8"))
    page = (DOCS / "reference" / "order.md").read_text(encoding="utf-8")
    task = schema["properties"]["tasks"]["items"]["properties"]
    for name, field in [*schema["properties"].items(), *task.items()]:
        assert f"| `{name}` | {field['description']} |" in page, f"docs/reference/order.md lacks '{name}'"


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: scripts/setup docs")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "reference" / "order.schema.json").exists()
    assert "order.schema.json" in (tmp_path / "site" / "reference" / "order" / "index.html").read_text()
