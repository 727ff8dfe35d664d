"""Deciding whether the first row of a text table names its columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

_NUMBER = re.compile(r"^[-+]?[$€£¥]?\s*(\d+([.,]\d+)*|[.,]\d+)([eE][-+]?\d+)?\s*%?$")
_NAME = re.compile(r"^[A-Za-z_][\w .()/%&;<>:?#$'-]{0,60}$")


def number_like(cell: str) -> bool:
    """Say whether a cell reads as a number (either decimal mark, groups, currency, per cent)."""
    return _NUMBER.match(cell) is not None


def find_header(rows: Sequence[Sequence[str]], width: int, missing: set[str]) -> tuple[bool, str]:
    """Return whether ``rows[0]`` is a header, and why.

    Each column votes: numbers under a word are for a header, a number on top is against it, and so is a
    word that comes again below.
    """
    if len(rows) < 1:
        return False, "there is no row"
    first = [cell.strip() for cell in rows[0]]
    rest = [row for row in rows[1:] if len(row) == width]
    if len(first) == width - 1 and len(rest) > 1:
        return True, "the first row is one field short, as names above row names are"
    if not rest:
        names = all(_NAME.match(cell) for cell in first if cell) and any(first)
        return names, "the only row holds words" if names else "the only row holds values"
    if numbers_as_names(first, rest):
        return True, "the first row holds distinct whole numbers unlike the values below"
    votes = sum(_vote(first[index], [row[index].strip() for row in rest], missing) for index in range(width))
    if votes > 0:
        return True, "the first row differs from the values below it as names do"
    return False, "the first row looks like the rows below it"


def numbers_as_names(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Say whether the names are whole numbers, such as years or sensor numbers."""
    numbers = [cell for cell in first if cell.isdigit()]
    if len(numbers) < 3 or len(set(numbers)) < len(numbers) or len(numbers) < len(first) - 3:
        return False
    steps = {int(b) - int(a) for a, b in pairwise(numbers)}
    below = [row[index] for row in rest[:20] for index, cell in enumerate(first) if cell.isdigit()]
    fractions = sum("." in cell for cell in below)
    sequence = len(steps) == 1 and 0 not in steps and len(rest) > 1
    if sequence and not any(set(row) == set(first) for row in rest):
        again = {int(b) - int(a) for a, b in pairwise(rest[0]) if a.isdigit() and b.isdigit()}
        return again != steps
    return fractions > 0.8 * len(below)


def _vote(top: str, below: Sequence[str], missing: set[str]) -> float:
    present = [cell for cell in below if cell not in missing]
    if not present:
        return 0.5 if top and top not in missing and not number_like(top) else 0.0
    numeric = sum(number_like(cell) for cell in present) / len(present)
    if top == "":
        return 0.0
    if number_like(top):
        return -2.0
    if numeric > 0.8:
        return -0.5 if top in missing else 2.0
    if top in missing or top in present:
        return -1.0
    return _vote_words(top, present)


def _vote_words(top: str, present: Sequence[str]) -> float:
    lengths = {len(cell) for cell in present}
    if len(present) > 3 and len(lengths) == 1 and len(top) not in lengths:
        return 1.0
    if len(set(present)) < 0.5 * len(present):
        return 0.6
    mean = sum(map(len, present)) / len(present)
    if _NAME.match(top) and len(top) <= 30 and mean > 2.5 * len(top):
        return 1.0
    dated = sum(any(mark.isdigit() for mark in cell) for cell in present) / len(present)
    if dated > 0.8 and not any(mark.isdigit() for mark in top):
        return 1.0
    return 0.1 if _NAME.match(top) and len(present) > 1 else -0.2
