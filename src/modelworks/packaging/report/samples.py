"""The sections of a report that show samples: errors with thumbnails, the embedding map, forecasts, timelines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelworks.packaging.report import page, sample_plots
from modelworks.packaging.report.figures import (
    breakable,
    entries,
    escaped,
    floats,
    gappy,
    is_number,
    mapping,
    metric_name,
    number,
    percent,
    plural,
    records,
    whole,
)

_PICTURE = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MEDIA = frozenset({"image/png", "image/jpeg", "image/webp"})
_LONGEST_PICTURE = 200_000
_LONGEST_TEXT = 400
_GROUPS = 12
_ITEMS = 24


def sample_sections(samples: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return ``(anchor, heading, HTML)`` of everything there is to look at; see ``packaging.report`` for the data."""
    return [
        ("errors", "Look at the errors", groups_section(samples)),
        ("map", "How the samples lie", map_section(mapping(samples, "map"))),
        ("forecasts", "Forecasts on sealed windows", forecasts_section(samples)),
        ("timelines", "Anomaly timelines", timelines_section(samples)),
    ]


def has_pictures(samples: Mapping[str, Any]) -> bool:
    """Return whether a page of these samples shows pictures, which its policy must then allow."""
    return "<img" in groups_section(samples)


def groups_section(samples: Mapping[str, Any]) -> str:
    """Return groups of samples: the most confident errors, what is confused with what, what was found strange."""
    parts = []
    for group in records(samples, "groups")[:_GROUPS]:
        shown = [card for item in records(group, "items")[:_ITEMS] if (card := _card(item))]
        if shown:
            note = page.note(str(group["note"])) if group.get("note") else ""
            cards = f'<div class="samples">{"".join(shown)}</div>'
            parts.append(f"<h3>{breakable(group.get('title', ''))}</h3>{note}{cards}")
    about = page.note(str(samples["about"])) if parts and samples.get("about") else ""
    return about + "".join(parts)


def map_section(points: Mapping[str, Any]) -> str:
    """Return the map of embeddings: near samples look alike to the backbone; errors are ringed."""
    xs, ys = floats(points, "x"), floats(points, "y")
    truth = [str(item) for item in entries(points, "truth")]
    right = [bool(item) for item in entries(points, "right")]
    if not xs or not len(xs) == len(ys) == len(truth) == len(right):
        return ""
    drawing, names = sample_plots.map_plot(xs, ys, truth, right)
    explained = points.get("explained")
    share = f" They hold {percent(explained, 0)} of the variance." if is_number(explained) else ""
    caption = (
        f"{plural(len(xs), 'sealed sample')} on the first two principal components of the embedding; "
        f"hollow marks are errors.{share}"
        + (" Coloured are the classes with the most errors here." if "others" in names else "")
    )
    key = page.legend([(f"p{index % 8}", name) for index, name in enumerate(names)])
    return page.figure(drawing, caption) + key


def forecasts_section(samples: Mapping[str, Any]) -> str:
    """Return history, forecast with its interval and what came, for a few sealed windows."""
    parts, level = [], None
    for item in records(samples, "forecasts")[:_ITEMS]:
        history, actual = gappy(item, "history"), gappy(item, "actual")
        prediction, low, high = floats(item, "prediction"), floats(item, "low"), floats(item, "high")
        if not any(value is not None for value in history) or not prediction:
            continue
        band = (low, high) if len(low) == len(high) == len(prediction) else None
        actual = actual if len(actual) == len(prediction) else []
        name = str(item.get("name", ""))
        drawing = sample_plots.forecast_plot(name, history, prediction, band, actual)
        said = f" after {item['origin']}" if item.get("origin") else ""
        if band and actual:
            inside = [
                bottom <= value <= top
                for bottom, value, top in zip(low, actual, high, strict=True)
                if value is not None
            ]
            said += f": {sum(inside)} of {plural(len(inside), 'value')} inside the band"
            level = item.get("level", level)
        value = item.get("value")
        said += f", {metric_name(item.get('metric'))} {number(value)}" if is_number(value) else ""
        parts.append(page.figure(drawing, f"{name}{said}."))
    if not parts:
        return ""
    key = page.legend([("p7", "history"), ("p0", "forecast"), ("p2", "what came (dashed)")])
    share = f" The band should hold {percent(level, 0)} of what comes." if is_number(level) else ""
    note = page.note(
        f"Windows from the beginning to the end of the sealed part, not chosen by how good they are.{share}"
    )
    return note + key + page.side_by_side(*parts)


def timelines_section(samples: Mapping[str, Any]) -> str:
    """Return streams with their anomaly scores, the threshold, the alarms and the labelled events."""
    parts = []
    for item in records(samples, "timelines")[:_ITEMS]:
        values, scores = floats(item, "values"), floats(item, "scores")
        if len(values) < 2 or len(values) != len(scores):
            continue
        steps = floats(item, "steps")
        steps = steps if len(steps) == len(values) else [float(place) for place in range(len(values))]
        threshold = item.get("threshold")
        events = [
            (float(event[0]), float(event[1]))
            for event in entries(item, "events")
            if isinstance(event, (list, tuple)) and len(event) == 2 and all(map(is_number, event))
        ]
        bound = float(threshold) if is_number(threshold) else None
        drawing = sample_plots.timeline_plot(str(item.get("name", "")), steps, values, scores, bound, events)
        alarms = whole(item, "alarms")
        caption = (
            f"{item.get('name', '')}: {plural(alarms, 'alarm')}, {plural(len(events), 'labelled event')}."
        )
        parts.append(page.figure(drawing, caption))
    if not parts:
        return ""
    note = page.note(
        "Above: the stream. Below: its score; dots are alarms, shaded spans are labelled events."
    )
    return note + "".join(parts)


def _card(item: Mapping[str, Any]) -> str:
    content = _content(item)
    if not content:
        return ""
    said, truth = item.get("said"), item.get("truth")
    wrong = said is not None and truth is not None and said != truth
    lines = []
    if truth is not None:
        lines.append(f"true <strong>{breakable(truth)}</strong>")
    if said is not None:
        share = f" {percent(item['share'], 0)}" if is_number(item.get("share")) else ""
        lines.append(f"named {page.class_pill(said, not wrong)}{share}")
    if is_number(item.get("score")):
        lines.append(f"score {number(item['score'], 3)}")
    name = str(item.get("name") or (f"row {whole(item, 'row')}" if is_number(item.get("row")) else ""))
    lines.append(f'<span class="sub">{escaped(name)}</span>')
    near = "".join(_near(other) for other in records(item, "near")[:4])
    beside = f'<div class="near"><span class="sub">nearest in training</span>{near}</div>' if near else ""
    return f'<div class="sample">{content}<p>{"<br>".join(lines)}</p>{beside}</div>'


def _near(item: Mapping[str, Any]) -> str:
    content = _content(item)
    alike = f" {percent(item['similarity'], 0)}" if is_number(item.get("similarity")) else ""
    words = f'<span class="sub">{breakable(item.get("truth", ""))}{alike}</span>'
    told = " told" if item.get("text") else ""
    return f'<div class="other{told}">{content}{words}</div>' if content else ""


def _content(item: Mapping[str, Any]) -> str:
    """Return the picture, text or curve of a sample; an unreadable one gives nothing."""
    pictures = [found for key in ("picture", "heat") if (found := _picture(item, key))]
    if pictures:
        return f'<div class="pictures">{"".join(pictures)}</div>'
    if item.get("text"):
        text = str(item["text"])
        cut = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "\u2026"
        return f'<p class="words" dir="auto">{escaped(cut)}</p>'
    channels = [floats({"values": channel}, "values") for channel in entries(item, "series")[:3]]
    shown = [channel for channel in channels if len(channel) > 1]
    return sample_plots.curve_thumbnail(shown) if shown else ""


def _picture(item: Mapping[str, Any], key: str) -> str:
    source = picture_source(mapping(item, key))
    words = "heat map: where it is strange" if key == "heat" else str(item.get("truth") or "sample")
    return f'<img src="{source}" alt="{escaped(words)}" class="thumb">' if source else ""


def picture_source(picture: Mapping[str, Any]) -> str:
    """Return the ``data:`` URL of a picture ``{media, data}``; empty unless it is a plain small one."""
    data, media = str(picture.get("data", "")), str(picture.get("media", ""))
    plain = media in _MEDIA and len(data) <= _LONGEST_PICTURE and _PICTURE.fullmatch(data)
    return f"data:{media};base64,{data}" if plain else ""
