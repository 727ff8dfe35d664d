"""The page of one explanation: what is marked, what is escaped, and that nothing in it can run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from modelworks.evaluation.sample_explanation import explain_image, explain_text
from modelworks.packaging import render_explanation


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def _tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(text)
    return parser.seen


def test_words_are_marked_by_what_they_add_and_escaped() -> None:
    worth = {"<script>": 0.8, "dull": -0.4}

    def ask(texts: list[str]) -> dict[str, Any]:
        return {"prediction": np.array([sum(worth.get(w, 0.0) for w in text.split()) for text in texts])}

    text = "a <script> so dull"
    page = render_explanation({"model": "m", "class": "", "text": text, **explain_text(text, ask)})
    marks = re.findall(r'<mark(?: class="(\w+)")? title="[^"]*">([^<]*)</mark>', page)
    assert [(kind, word.strip()) for kind, word in marks] == [
        ("", "a"), ("up4", "&lt;script&gt;"), ("", "so"), ("down2", "dull"),
    ]  # fmt: skip
    tags = _tags(page)
    assert not any(tag == "script" for tag, _ in tags)
    assert not any(name.startswith("on") or name == "style" for _, attributes in tags for name in attributes)


def test_fields_lie_over_the_picture() -> None:
    pytest.importorskip("PIL.Image", reason="the extra [image] is not installed")
    from modelworks.compute.pixels import small_picture

    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[:, 60:] = 255
    found = explain_image(pixels, lambda images: {"score": images[:, :, 60:].mean(axis=(1, 2, 3)) / 255})
    page = render_explanation({"model": "m", "class": "", "picture": small_picture(pixels), **found})
    fields = [
        attributes
        for tag, attributes in _tags(page)
        if tag == "rect" and attributes.get("class") in ("up", "down")
    ]
    assert len(fields) == 36
    strong = [
        float(a["x"] or 0) for a in fields if a["class"] == "up" and float(a["fill-opacity"] or 0) > 0.5
    ]
    assert strong and min(strong) >= 229
    assert "img-src data:" in page


def test_a_picture_that_is_none_is_left_out() -> None:
    found = {"contributions": [], "prediction": 0.5, "base": 0.5, "method": "m"}
    page = render_explanation(
        {"model": "m", **found, "picture": {"media": "text/html", "data": "PHA+", "width": 1, "height": 1}}
    )
    assert "text/html" not in page and "PHA+" not in page
