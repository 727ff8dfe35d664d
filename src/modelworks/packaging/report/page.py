"""The frame of a report: one HTML file without scripts, whose policy lets nothing in but its own style sheet."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from modelworks.packaging.report.figures import breakable, escaped

SHAPES = {
    "released": '<circle class="shape" cx="20" cy="20" r="17"/><path class="shape" d="M12 21l6 6 11-13"/>',
    "refused": '<circle class="shape" cx="20" cy="20" r="17"/><path class="shape" d="M13 13l14 14M27 13l-14 14"/>',
    "needs_evidence": '<circle class="shape" cx="20" cy="20" r="17"/><path class="shape" d="M20 11v11M20 28.5v.5"/>',
    "failed": '<path class="shape" d="M20 4l17 31H3z"/><path class="shape" d="M20 15v10M20 30v.5"/>',
}
WORDS = {
    "released": "Released",
    "refused": "Refused",
    "needs_evidence": "Needs more evidence",
    "failed": "Failed",
}
PILLS = {
    "released": "good", "passed": "good", "kept": "good", "refused": "bad", "failed": "bad", "error": "bad",
    "needs_evidence": "wait", "unknown": "wait", "warning": "wait",
}  # fmt: skip


@cache
def style_sheet() -> str:
    """Return the style sheet of all reports."""
    return (resources.files("modelworks.packaging.report") / "style.css").read_text(encoding="utf-8")


@cache
def policy(pictures: bool = False) -> str:
    """Return the content security policy: nothing may load or run; the one style sheet is named by its hash.

    Args:
        pictures: Whether pictures that stand in the file itself may be shown.
    """
    digest = base64.b64encode(hashlib.sha256(style_sheet().encode()).digest()).decode()
    images = "img-src data:; " if pictures else ""
    return f"default-src 'none'; {images}style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def page(
    title: str, head: str, sections: Iterable[tuple[str, str, str]], foot: str, *, pictures: bool = False
) -> str:
    """Return the whole document.

    Args:
        title: Plain text.
        head: HTML above the table of contents.
        sections: ``(anchor, heading, HTML)``; those without HTML are left out.
        foot: Plain text.
        pictures: Whether a section holds pictures.
    """
    shown = [(anchor, heading, body) for anchor, heading, body in sections if body]
    links = "".join(f'<a href="#{anchor}">{escaped(heading)}</a>' for anchor, heading, _ in shown)
    contents = f'<nav class="toc" aria-label="Contents">{links}</nav>' if len(shown) > 2 else ""
    cards = "".join(
        f'<section class="card{" long" if len(body) > 20_000 else ""}" id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{escaped(heading)}</h2>{body}</section>'
        for anchor, heading, body in shown
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(pictures)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escaped(title)}</title><style>{style_sheet()}</style></head>"
        f'<body><a class="skip" href="#content">Skip to the content</a><main id="content">{head}{contents}{cards}'
        f"<footer>{escaped(foot)}</footer></main></body></html>\n"
    )


def verdict_banner(kind: str, cause: str, fix: str, needed: Sequence[tuple[str, int]]) -> str:
    """Return the banner that says how it ended, why, and what to do."""
    kind = kind if kind in SHAPES else "failed"
    more = f"<p><strong>Next:</strong> {escaped(fix)}</p>" if fix else ""
    if needed:
        rows = "; ".join(f"{count:,} more rows of {escaped(where)}" for where, count in needed)
        more += f"<p><strong>Still to collect:</strong> {rows}.</p>"
    return (
        f'<div class="verdict {kind}" role="status">'
        f'<svg class="mark" viewBox="0 0 40 40" aria-hidden="true">{SHAPES[kind]}</svg>'
        f'<div class="word">{WORDS[kind]}</div><div><p>{escaped(cause)}</p>{more}</div></div>'
    )


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """Return key figures: ``(name, value, more)``, plain texts; those without a value are left out."""
    shown = "".join(
        f'<div class="tile"><div class="name">{escaped(name)}</div><div class="value">{escaped(value)}</div>'
        f'<div class="more">{escaped(more)}</div></div>'
        for name, value, more in items
        if value
    )
    return f'<div class="tiles">{shown}</div>' if shown else ""


def pill(text: Any, kind: str | None = None) -> str:
    """Return a small coloured label; the word says what the colour says."""
    style = PILLS.get(str(text) if kind is None else kind, "")
    return f'<span class="pill {style}">{escaped(str(text).replace("_", " "))}</span>'


def class_pill(name: Any, right: bool) -> str:
    """Return the name of a class as it is written, coloured by whether it is the right one."""
    return f'<span class="pill wrapped {"good" if right else "bad"}">{breakable(name)}</span>'


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], marks: Sequence[str] = ()) -> str:
    """Return a table.

    Args:
        heads: ``(heading, class of its cells)``; ``figure`` aligns right.
        rows: Cells as HTML.
        marks: Class of each row, if any.
    """
    head = "".join(f'<th scope="col" class="{style}">{escaped(name)}</th>' for name, style in heads)
    body = []
    for index, row in enumerate(rows):
        cells = "".join(
            f'<td class="{style}">{cell}</td>' for (_, style), cell in zip(heads, row, strict=True)
        )
        mark = marks[index] if index < len(marks) else ""
        body.append(f'<tr class="{mark}">{cells}</tr>' if mark else f"<tr>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def definitions(items: Iterable[tuple[str, str]]) -> str:
    """Return names (plain) and values (HTML); those without a value are left out."""
    shown = "".join(f"<dt>{escaped(name)}</dt><dd>{value}</dd>" for name, value in items if value)
    return f"<dl>{shown}</dl>" if shown else ""


def figure(drawing: str, caption: str) -> str:
    """Return a drawing with its caption (plain text)."""
    return f"<figure>{drawing}<figcaption>{escaped(caption)}</figcaption></figure>" if drawing else ""


def side_by_side(*parts: str) -> str:
    """Return parts in as many columns as fit."""
    shown = [part for part in parts if part]
    return f'<div class="two">{"".join(shown)}</div>' if shown else ""


def folded(summary: str, body: str) -> str:
    """Return a part that is opened by a click; it works without scripts."""
    return f"<details><summary>{escaped(summary)}</summary>{body}</details>" if body else ""


def note(text: str) -> str:
    """Return a sentence in small print."""
    return f'<p class="note">{escaped(text)}</p>' if text else ""


def commands(items: Any) -> str:
    """Return ``[[what, command]]`` as a block to copy from."""
    pairs = [
        item
        for item in (items if isinstance(items, (list, tuple)) else ())
        if isinstance(item, (list, tuple)) and len(item) == 2
    ]
    lines = "\n".join(f"# {escaped(what)}\n{escaped(command)}" for what, command in pairs)
    return f"<pre>{lines}</pre>" if lines else ""


def legend(items: Sequence[tuple[str, str]]) -> str:
    """Return coloured squares with names: ``(class of the fill, name)``."""
    shown = "".join(f"<span>{swatch(style)}{escaped(name)}</span>" for style, name in items)
    return f'<div class="legend">{shown}</div>'


def swatch(style: str) -> str:
    """Return a coloured square."""
    square = f'<rect class="{style}" width="10" height="10"/>'
    return f'<svg class="swatch" viewBox="0 0 10 10" aria-hidden="true">{square}</svg>'
