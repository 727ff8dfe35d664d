"""A task names its backbone: the reference itself, several, one that cannot be made; every line ends in a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sample_sources import write_images, write_reviews

import modelworks as mw
from modelworks.core.errors import DataError

SLOW = {"latency_ms": 1000}


def _backbone(result: Any) -> str:
    chosen = str(result.line.chosen)
    return chosen.partition(" on ")[2].partition(":")[0]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_reference_may_be_named(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="needs the extra 'image'")
    result = mw.produce(
        write_images(tmp_path, rows=60), "label", name="stripes", home=tmp_path / "home",
        options={"backbone": "images.pixels"}, limits=SLOW, explain=False,
    )  # fmt: skip
    assert result.verdict.kind in {"released", "refused"}, result.verdict
    assert _backbone(result) == "images.pixels"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_reference_may_stand_in_a_list(tmp_path: Path) -> None:
    result = mw.produce(
        write_reviews(tmp_path, rows=80), "label", name="reviews", home=tmp_path / "home",
        options={"backbone": ["text.shape", "text.ngrams"], "payload": "text"}, limits=SLOW, explain=False,
    )  # fmt: skip
    assert result.verdict.kind == "released", result.verdict
    assert _backbone(result) == "text.ngrams"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_backbone_that_cannot_be_made_ends_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no setting"):
        mw.produce(
            write_reviews(tmp_path, rows=80), "label", name="reviews", home=tmp_path / "home",
            options={"backbone": "text.ngrams", "backbone_settings": {"text.ngrams": {"depth": 3}}},
        )  # fmt: skip
