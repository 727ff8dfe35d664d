"""What a source can be asked, found out before anything is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelworks.control.looking import only_target
from modelworks.core.errors import DataError, UsageError


def _images(folder: Path) -> Path:
    for label in ("cat", "dog"):
        for number in range(2):
            file = folder / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 255, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(file)
    return folder


def test_folders_of_images_are_asked_for_the_folder(tmp_path: Path) -> None:
    assert only_target(_images(tmp_path / "pets"), {}) == "label"


def test_texts_beside_a_label_are_asked_for_it(tmp_path: Path) -> None:
    file = tmp_path / "said.csv"
    file.write_text(
        "text,label\n" + "".join(f"some words of a person {n} times,{n % 2}\n" for n in range(40))
    )
    assert only_target(file, {}) == "label"


def test_a_table_must_be_told_and_its_columns_are_named(tmp_path: Path) -> None:
    file = tmp_path / "wide.csv"
    file.write_text(",".join(f"c{n}" for n in range(20)) + "\n" + ",".join("1" for _ in range(20)) + "\n")
    with pytest.raises(UsageError, match=r"There are c0, .*, c11 and 8 more") as caught:
        only_target(file, {})
    assert "--target COLUMN" in caught.value.hint


def test_a_table_with_a_column_label_among_numbers_is_not_guessed(tmp_path: Path) -> None:
    file = tmp_path / "numbers.csv"
    file.write_text("age,label\n" + "".join(f"{n},{n % 2}\n" for n in range(40)))
    with pytest.raises(UsageError, match="There are age, label"):
        only_target(file, {})


def test_a_folder_without_samples_names_the_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "images.7z").write_bytes(b"7z")
    with pytest.raises(DataError) as caught:
        only_target(tmp_path / "archive", {})
    assert "'archive/images.7z'" in caught.value.hint
