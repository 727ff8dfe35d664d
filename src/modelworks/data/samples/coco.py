"""Image-level labels of a COCO annotation file: one yes/no column per category."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelworks.core.errors import DataError
from modelworks.data.samples.images import FILE

MAX_CATEGORIES = 1000


def read_coco(path: Path) -> pa.Table:
    """Return one row per image: ``file`` and a column per category that says whether the image has one of it.

    Raises:
        DataError: The file is no COCO annotation file.

    Source: Lin et al. (2014), Microsoft COCO: common objects in context; the format's "images", "annotations" and
    "categories" lists.
    """
    try:
        data = json.loads(path.read_bytes())
        images = {item["id"]: str(item["file_name"]) for item in data["images"]}
        categories = {item["id"]: str(item["name"]) for item in data["categories"]}
        pairs = {(item["image_id"], item["category_id"]) for item in data["annotations"]}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(
            f"'{path.name}' is not a COCO annotation file ({type(error).__name__}: {error}).",
            code="MW1165",
            where=path.name,
            hint="it needs images (id, file_name), categories (id, name) and annotations (image_id, category_id)",
        ) from None
    names = list(categories.values())
    if not images or not names or len(set(names)) != len(names) or len(names) > MAX_CATEGORIES:
        raise DataError(
            f"'{path.name}' has {len(images)} images and {len(names)} categories, {len(set(names))} of them different.",
            code="MW1165",
            where=path.name,
        )
    columns: dict[str, Any] = {FILE: list(images.values())}
    for category, name in categories.items():
        columns[name] = [int((image, category) in pairs) for image in images]
    return pa.table(columns)
