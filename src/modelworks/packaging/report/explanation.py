"""The page of one explanation: what each column, word, field or stretch added to one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.packaging.report import page, plots
from modelworks.packaging.report.figures import escaped, is_number, mapping, number, records
from modelworks.packaging.report.samples import picture_source

_MOST_BARS = 25
_WIDE = 460


def render_explanation(data: Mapping[str, Any]) -> str:
    """Return one explanation as a static page.

    Args:
        data: As ``evaluation.explain`` and its relatives for texts, images and series return it, with ``model`` and
            ``class``; beside it ``text`` (contributions have ``start`` and ``stop``) or ``picture`` (``{media, data,
            width, height}``; contributions have ``box``).
    """
    items = [item for item in records(data, "contributions") if is_number(item.get("contribution"))]
    name = f"p({data['class']})" if data.get("class") else "answer"
    base = str(data.get("base_is") or "typical rows")
    facts = [
        (name, number(data.get("prediction")), "of this row"),
        ("starts from", number(data.get("base")), base),
    ]
    head = (
        '<header class="top"><p class="kicker">What moved one answer</p>'
        f"<h1>{escaped(data.get('model', ''))}</h1></header>{page.tiles(facts)}"
    )
    looked = _words(str(data.get("text") or ""), items) or _fields(mapping(data, "picture"), items)
    sections = [
        ("sample", "The sample", f"{looked}{_legend(name)}" if looked else ""),
        ("parts", "Part by part", _bars(items, name)),
    ]
    foot = f"{data.get('method', '')}, against {base}. Together with the start they add up to the answer."
    return page.page(
        f"{data.get('model', '')}: explanation", head, sections, foot, pictures=bool(data.get("picture"))
    )


def _bars(items: list[Mapping[str, Any]], name: str) -> str:
    rows = []
    for item in items[:_MOST_BARS]:
        error = item.get("error")
        rows.append((
            _named(item), float(item["contribution"]), float(error) if is_number(error) else None,
            f"{item['contribution']:+.3g}",
        ))  # fmt: skip
    more = f" {len(items) - _MOST_BARS} parts after these move it less." if len(items) > _MOST_BARS else ""
    caption = f"How far each part moves {name}; whiskers are one standard error.{more}"
    return page.figure(plots.bars_plot(rows, title=f"What moves {name}"), caption) if rows else ""


def _named(item: Mapping[str, Any]) -> str:
    value = item.get("value")
    return str(item.get("column", "")) + (
        f" = {value}" if value not in (None, "") and not {"box", "start"} & item.keys() else ""
    )


def _words(text: str, items: list[Mapping[str, Any]]) -> str:
    """Return the text with every part marked by how far it moves the answer."""
    placed = sorted((item for item in items if "start" in item), key=lambda item: int(item["start"]))
    if not text or not placed:
        return ""
    most = _most(items)
    marked = []
    for item in placed:
        part = escaped(text[int(item["start"]) : int(item["stop"])])
        level = round(4 * abs(item["contribution"]) / most)
        kind = f' class="{"up" if item["contribution"] > 0 else "down"}{level}"' if level else ""
        marked.append(f'<mark{kind} title="{item["contribution"]:+.3g}">{part}</mark>')
    return f'<p class="words marked" dir="auto">{"".join(marked)}</p>'


def _fields(picture: Mapping[str, Any], items: list[Mapping[str, Any]]) -> str:
    """Return the image, and beside it the image under fields coloured by how far they move the answer."""
    source = picture_source(picture)
    if not source or not picture.get("width"):
        return ""
    tall = round(_WIDE * picture["height"] / picture["width"])
    most = _most(items)
    fields = []
    for item in (item for item in items if "box" in item):
        left, top, right, bottom = item["box"]
        fields.append(
            f'<rect x="{left * _WIDE:.1f}" y="{top * tall:.1f}" width="{(right - left) * _WIDE:.1f}" '
            f'height="{(bottom - top) * tall:.1f}" class="{"up" if item["contribution"] > 0 else "down"}" '
            f'fill-opacity="{0.75 * abs(item["contribution"]) / most:.3f}"><title>{escaped(item.get("column", ""))}: '
            f"{item['contribution']:+.3g}</title></rect>"
        )
    image = f'<image href="{source}" width="{_WIDE}" height="{tall}" preserveAspectRatio="none"/>'
    views = [
        f'<svg class="looked" role="img" aria-label="{words}" viewBox="0 0 {_WIDE} {tall}">{image}{over}</svg>'
        for words, over in (("the image", ""), ("what moves the answer", "".join(fields)))
    ]
    return page.side_by_side(*views)


def _most(items: list[Mapping[str, Any]]) -> float:
    return max(abs(float(item["contribution"])) for item in items) or 1.0


def _legend(name: str) -> str:
    return page.note(f"Red raises {name}, blue lowers it; the stronger, the more.")
