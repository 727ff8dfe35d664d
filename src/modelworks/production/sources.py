"""Which sources the ``data`` field of an order names: a file, a folder, a glob or a URL."""

from __future__ import annotations

import os
import re
from pathlib import Path

from modelworks.core.errors import DataError, TaskError, close_matches


def find_sources(data: str, folder: Path) -> list[str]:
    """Return the sources that ``data`` names: one path or URL, the files of a folder, or those a glob finds.

    Raises:
        TaskError: There is no such file, or the glob finds nothing.
    """
    if "://" in data:
        return [data]
    path = Path(data).expanduser()
    path = path if path.is_absolute() else folder / path
    if path.is_file():
        return [str(path.resolve())]
    if path.is_dir():
        if is_sample_folder(path):
            return [str(path.resolve())]
        found = sorted(str(item.resolve()) for item in path.iterdir() if _is_table(item))
        if not found:
            raise TaskError(f"the folder '{data}' holds no table and no samples", code="MW1208")
        return found
    if any(mark in data for mark in "*?["):
        anchor = Path(path.anchor)
        found = sorted(
            str(item.resolve())
            for item in anchor.glob(str(path.resolve().relative_to(anchor)))
            if item.is_file()
        )
        if found:
            return found
        raise TaskError(f"no file matches '{data}'", code="MW1208")
    siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    raise TaskError(f"there is no file '{data}'.{close_matches(path.name, siblings)}", code="MW1208")


def is_sample_folder(path: Path) -> bool:
    """Say whether a folder is one set of images, sounds, texts or series, and not a collection of tables."""
    from modelworks.data.samples.forms import sample_form

    return sample_form(path) != ""


_TABLES = (
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".jsonl",
    ".ndjson",
    ".json",
    ".xlsx",
    ".xls",
    ".arrow",
    ".feather",
)


def _is_table(path: Path) -> bool:
    name = path.name.removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2")
    return path.is_file() and not name.startswith(".") and name.endswith(_TABLES)


def source_stem(data: str) -> str:
    """Return a task name for a source: the file's name without its endings."""
    stem = data.rpartition("://")[2].partition("?")[0].rstrip("/").rpartition("/")[2]
    for ending in (".gz", ".bz2", ".zst", ".zip", ".ts", *_TABLES):
        stem = stem.removesuffix(ending)
    return safe_name(stem)


def safe_name(text: str) -> str:
    """Return ``text`` as a task name: every other character becomes ``-``."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:90]
    return safe if safe and safe[0].isalnum() else "task"


def with_secrets(url: str) -> str:
    """Return a URL with ``${NAME}`` put back from the environment.

    Raises:
        DataError: The environment does not have it.
    """
    whole = os.path.expandvars(url)
    left = re.search(r"\$\{(\w+)\}", whole)
    if left is not None:
        raise DataError(
            f"The source needs the environment variable {left[1]}, which is not set.",
            code="MW1198",
            hint="set it, or start the order from its file again: mw produce order.yaml",
        )
    return whole
