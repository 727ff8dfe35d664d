"""Explanations of texts and images: parts of known worth get that worth, and all of them add up."""

from __future__ import annotations

import numpy as np
import pytest

from modelworks.core.errors import UsageError
from modelworks.evaluation.sample_explanation import explain_image, explain_text

WORTH = {"good": 0.5, "bad": -0.3, "very": 0.1}


def _worth(texts: list[str]) -> dict[str, np.ndarray]:
    return {"prediction": np.array([sum(WORTH.get(word, 0.0) for word in text.split()) for text in texts])}


def _total(found: dict[str, object]) -> float:
    return float(found["base"]) + sum(item["contribution"] for item in found["contributions"])  # type: ignore[attr-defined, arg-type]


def test_every_word_gets_what_it_is_worth() -> None:
    text = "  a very good film,\nnot bad "
    found = explain_text(text, _worth)
    worth = {item["column"]: item["contribution"] for item in found["contributions"]}
    assert worth == pytest.approx({"a": 0, "very": 0.1, "good": 0.5, "film,": 0, "not": 0, "bad": -0.3})
    assert found["base"] == 0 and _total(found) == pytest.approx(found["prediction"])
    for item in found["contributions"]:
        assert text[item["start"] : item["stop"]].strip() == item["column"]


def test_words_that_act_together_share_what_they_do() -> None:
    def both(texts: list[str]) -> dict[str, np.ndarray]:
        yes = np.array([0.9 if {"not", "bad"} <= set(text.split()) else 0.1 for text in texts])
        return {"probabilities": np.stack([1 - yes, yes], axis=1)}

    found = explain_text("not so bad", both)
    worth = {item["column"]: item["contribution"] for item in found["contributions"]}
    assert found["answer"] == 1 and worth["so"] == pytest.approx(0)
    assert worth["not"] == pytest.approx(0.4, abs=0.15) and worth["not"] + worth["bad"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("word " * 500, 36), ("质量很好下次还会再来的" * 30, 36), ("x", 1), ("a\u00a0b", 2)],
)
def test_long_texts_and_texts_without_blanks_are_taken_apart(text: str, parts: int) -> None:
    asked = 0

    def length(texts: list[str]) -> dict[str, np.ndarray]:
        nonlocal asked
        asked += len(texts)
        return {"prediction": np.array([float(len(t)) for t in texts])}

    found = explain_text(text, length, most_asked=300)
    assert len(found["contributions"]) == parts
    assert _total(found) == pytest.approx(len(text), rel=1e-6)
    assert asked <= 302


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="empty text"):
        explain_text(text, _worth)


def _corner(images: np.ndarray) -> dict[str, np.ndarray]:
    """The model looks at the lower right ninth of an image alone."""
    rows, columns = images.shape[1] * 2 // 3, images.shape[2] * 2 // 3
    return {"score": images[:, rows:, columns:].mean(axis=(1, 2, 3)) / 255}


@pytest.mark.parametrize(("height", "width"), [(60, 90), (7, 5), (1200, 1800)])
def test_an_image_is_explained_where_the_model_looks(height: int, width: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height * 2 // 3 :, width * 2 // 3 :] = 255
    found = explain_image(pixels, _corner)
    assert found["prediction"] == pytest.approx(1, abs=0.01)
    assert _total(found) == pytest.approx(found["prediction"], abs=1e-6)
    inside = [item for item in found["contributions"] if item["box"][0] > 0.6 and item["box"][1] > 0.6]
    outside = [item for item in found["contributions"] if item["box"][2] < 0.6 or item["box"][3] < 0.6]
    assert all(item["contribution"] > 0.05 for item in inside) and inside
    assert all(item["contribution"] == pytest.approx(0, abs=1e-9) for item in outside) and outside


def test_a_picture_of_one_pixel_is_one_field() -> None:
    found = explain_image(
        np.full((1, 1, 3), 200, np.uint8), lambda images: {"prediction": images.mean(axis=(1, 2, 3))}
    )
    assert len(found["contributions"]) == 1 and found["contributions"][0]["contribution"] == 0
