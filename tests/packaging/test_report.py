"""Reports: complete, safe as files (no scripts, no loads, all text escaped), patient with odd data (S17, S18)."""

from __future__ import annotations

import base64
import copy
import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import page_data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.packaging import render_model_report, render_order_report
from modelworks.packaging.report.figures import duration, escaped, money, number, percent, size_of
from modelworks.packaging.report.page import policy, style_sheet
from modelworks.packaging.report.plots import confusion_plot
from modelworks.packaging.report.sample_plots import map_plot, thinned
from modelworks.packaging.report.samples import groups_section
from modelworks.packaging.report.svg import nice_ticks

VOID = {"wbr", "meta", "br", "img"}
ALLOWED_TAGS = {
    "html", "head", "meta", "title", "style", "body", "a", "main", "header", "p", "h1", "h2", "h3", "div", "nav",
    "section", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "circle", "line", "polyline", "polygon",
    "path", "text", "span", "br", "ul", "li", "dl", "dt", "dd", "pre", "code", "details", "summary", "figure",
    "figcaption", "footer", "strong", "img", "bdi", "wbr",
}  # fmt: skip
ALLOWED_ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "aria-label", "aria-labelledby",
    "aria-hidden", "role", "scope", "width", "height", "viewbox", "preserveaspectratio", "x", "y", "x1", "x2",
    "y1", "y2", "cx", "cy", "r", "d", "points", "transform", "src", "alt", "dir",
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "</title></svg><svg onload=alert(1)>",
    "javascript:alert(1)",
    "&lt;b&gt; & < > \" '",
    "<!-- -->",
    "\u202eevil\u0000\u001b[31m\ud800",
    "]]><script>",
    "{{7*7}}${7*7}",
]


class Reader(HTMLParser):
    """Collects what a browser would act on; fails on a tag that is not closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def assert_safe(html: str) -> Reader:
    reader = read(html)
    for tag, attributes in reader.tags:
        assert tag in ALLOWED_TAGS, tag
        assert set(attributes) <= ALLOWED_ATTRIBUTES, (tag, attributes)
        link = attributes.get("href")
        assert link is None or re.fullmatch(r"#[a-z-]+|[A-Za-z0-9][A-Za-z0-9._/-]*", link), link
        assert ("src" in attributes) == (tag == "img"), tag
        if tag == "img":
            assert re.fullmatch(
                r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+=*", attributes["src"] or ""
            )
            assert attributes["alt"]
    html.encode("utf-8")
    return reader


def hostile(value: Any, text: str) -> Any:
    """Replace every text of some data by a hostile one, keeping the words that steer."""
    if isinstance(value, dict):
        return {key: hostile(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, text) for item in value]
    return f"{text}{value}" if isinstance(value, str) else value


@pytest.mark.parametrize("kind", page_data.PAGES)
def test_every_section_of_a_model_report_is_there(kind: str) -> None:
    html = render_model_report(page_data.PAGES[kind]())
    reader = assert_safe(html)
    headings = {
        "Gate",
        "How good it is",
        "What the guard found",
        "What was tried",
        "The table",
        "What it cost",
        "How to use it",
    }
    assert headings <= {text.strip() for text in reader.text}
    assert "Needs more evidence" in html
    assert "40 more rows of city=Basel" in html


def test_a_binary_report_shows_its_pictures_with_numbers() -> None:
    html = render_model_report(page_data.binary())
    for shown in (
        "Calibration: claimed",
        "ROC curve",
        "Precision-recall curve",
        "Confusion matrix",
        "What happens at each",
    ):
        assert f"<title>{shown}" in html
    assert "0.9000" in html and "0.8100 to 0.9450" in html
    assert "looked at 2 times" in html
    assert "city = Basel (12 rows; 30 are needed)" in html
    assert "/home/ann" not in html


def test_an_order_report_shows_lines_causes_and_the_cost_of_task_n() -> None:
    html = render_order_report(page_data.order())
    assert_safe(html)
    assert "2 of 8" in html and 'href="task-0.html"' in html
    assert "Cost of task n" in html and "shared work off" in html


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", [*page_data.PAGES, "order"])
def test_hostile_texts_stay_texts(kind: str, text: str) -> None:
    render: Callable[[Any], str] = render_order_report if kind == "order" else render_model_report
    data = page_data.order() if kind == "order" else page_data.PAGES[kind]()
    assert_safe(render(hostile(data, text)))
    assert_safe(render({**data, "title": text}))


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "//evil.test/x",
        "../../etc/passwd",
        "https://evil.test",
        "a\nb",
        ".hidden",
        "a/../b",
    ],
)
def test_a_line_links_only_to_a_file_beside_the_report(link: str) -> None:
    data = page_data.order()
    data["lines"][0]["report"] = link
    assert f'href="{link}"' not in render_order_report(data)


def test_nothing_can_load_or_run() -> None:
    html = render_model_report(page_data.binary())
    assert "default-src 'none'" in html
    inside = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert inside
    digest = base64.b64encode(hashlib.sha256(inside.group(1).encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy() and policy() in html
    assert "url(" not in style_sheet() and "@import" not in style_sheet()
    assert "://" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)


def test_samples_are_shown_to_be_looked_at() -> None:
    html = render_model_report(page_data.samples())
    reader = assert_safe(html)
    headings = {
        "Look at the errors",
        "How the samples lie",
        "Forecasts on sealed windows",
        "Anomaly timelines",
    }
    assert headings <= {text.strip() for text in reader.text}
    assert sum(tag == "img" for tag, _ in reader.tags) == 3
    assert policy(pictures=True) in html and "img-src data:" in html
    assert "&lt;b&gt;bad" in html and "\u2026</p>" in html
    assert "1 alarm, 1 labelled event" in html and "step 910" in html
    # A missing value is a gap, not the end of the picture.
    assert "OT after 2017-10-23 04:00: 1 of 1 value inside the band" in html
    assert "img-src" not in render_model_report(page_data.binary())


@pytest.mark.parametrize(
    "picture",
    [
        {"media": "image/svg+xml", "data": page_data.PIXEL},
        {"media": "image/png", "data": 'x" onerror="alert(1)'},
        {"media": "image/png", "data": "A" * 300_000},
        {"media": "image/png", "data": ""},
    ],
)
def test_a_picture_that_is_none_is_left_out(picture: dict[str, str]) -> None:
    data = page_data.samples()
    data["samples"]["groups"] = [{"title": "t", "items": [{"row": 1, "picture": picture}]}]
    html = render_model_report(data)
    assert "<img" not in html and "img-src" not in html


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=3000), st.integers(10, 800))
def test_a_thinned_line_keeps_its_extremes(values: list[float], points: int) -> None:
    places, kept = thinned(values, points)
    assert len(kept) <= points + 2
    assert min(kept) == min(values) and max(kept) == max(values)
    assert places == sorted(places)
    assert all(values[int(place)] == value for place, value in zip(places, kept, strict=True))


def test_secrets_of_a_source_are_not_shown() -> None:
    data = page_data.binary()
    data["task"]["data"] = "postgresql://ann:hunter2@db.internal/sales?sslmode=on&password=hunter2"
    data["lineage"]["dataset"]["name"] = "s3://bucket/x.csv?X-Amz-Signature=hunter2&version=3"
    data["commands"] = [["Again", "mw produce 'https://ann:hunter2@host/x.csv?token=hunter2'"]]
    html = render_model_report(data)
    assert "hunter2" not in html
    assert "version=3" in html


def test_names_of_classes_stand_as_they_are_and_errors_are_red() -> None:
    item = {"row": 1, "text": "\u0645\u0631\u062d\u0628\u0627", "truth": "top_up", "said": "top_up_failed"}
    near = {"text": "x", "truth": "top_up", "similarity": 0.5}
    html = groups_section({"groups": [{"title": "a", "items": [{**item, "near": [near]}]}]})
    assert '<span class="pill wrapped bad"><bdi>top_<wbr>up_<wbr>failed</bdi></span>' in html
    assert '<p class="words" dir="auto">' in html and 'class="other told"' in html


def test_a_large_confusion_names_every_class_on_both_sides() -> None:
    names = [f"class_{index:02}" for index in range(30)]
    drawing = confusion_plot(names, [[float(a == b) for a in range(30)] for b in range(30)])
    assert all(drawing.count(f">{name}<") == 2 for name in names) and 'class="plot whole"' in drawing


def test_a_map_of_many_classes_colours_those_with_errors() -> None:
    truth = [f"c{index % 12}" for index in range(48)]
    right = [name not in {"c10", "c11"} for name in truth]
    _, names = map_plot(list(range(48)), list(range(48)), truth, right)
    assert names[:2] == ["c10", "c11"] and names[-1] == "others" and len(names) == 8


def test_every_picture_is_well_formed_and_named() -> None:
    for make in page_data.PAGES.values():
        html = render_model_report(make())
        for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
            root = ET.fromstring(drawing)
            assert root.get("aria-hidden") == "true" or root.get("aria-label")


def test_equal_data_gives_equal_bytes() -> None:
    assert render_model_report(page_data.binary()) == render_model_report(page_data.binary())
    assert render_order_report(page_data.order()) == render_order_report(page_data.order())


def test_empty_data_gives_a_page() -> None:
    for render in (render_model_report, render_order_report):
        assert_safe(render({}))


ODD = st.sampled_from(
    [
        None,
        "",
        "text",
        -1,
        0,
        1e300,
        -1e300,
        float("nan"),
        float("inf"),
        True,
        [],
        {},
        [None],
        ["a", 1],
        [[]],
        {"a": 1},
        10**30,
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_odd_data_never_breaks_a_report(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([*page_data.PAGES, "order"]))
    page = page_data.order() if kind == "order" else page_data.PAGES[kind]()
    for _ in range(data.draw(st.integers(1, 6))):
        spoil(page, data)
    assert_safe(render_order_report(page) if kind == "order" else render_model_report(page))


def spoil(value: Any, data: st.DataObject) -> None:
    """Walk down a random way and replace or remove what is there."""
    while True:
        if not isinstance(value, (dict, list)) or not value:
            return
        key = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        if not isinstance(value[key], (dict, list)) or not value[key] or data.draw(st.integers(0, 3)) == 0:
            if isinstance(value, dict) and data.draw(st.booleans()):
                del value[key]
            else:
                value[key] = copy.deepcopy(data.draw(ODD))
            return
        value = value[key]


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2, 1.4.3)."""
    shades = sorted(luminance(colour) for colour in (one, other))
    return (shades[1] + 0.05) / (shades[0] + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
def test_texts_have_enough_contrast(dark: bool) -> None:
    light, night = re.findall(r":root \{(.*?)\}", style_sheet(), re.DOTALL)[:2]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light))
    if dark:
        colours |= dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", night))
    pairs = [
        ("ink", "card"),
        ("soft", "card"),
        ("soft", "wash"),
        ("one", "card"),
        ("good", "good-soft"),
        ("bad", "bad-soft"),
        ("wait", "wait-soft"),
        ("soft", "info-soft"),
        ("faint", "wash"),
    ]
    for text, ground in pairs:
        least = 3.0 if text == "faint" else 4.5
        assert contrast(colours[text], colours[ground]) >= least, (text, ground)
    for line in ("one", "two", "three", "good", "bad", "wait"):
        assert contrast(colours[line], colours["card"]) >= 3.0, line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.79231, "0.7923"),
        (540.123, "540.1"),
        (12345.678, "12,346"),
        (3.0, "3"),
        (0, "0"),
        (-0.5, "\u22120.5000"),
        (1e-17, "0"),
        (2e12, "2e+12"),
        (0.00002, "2e-05"),
        (float("nan"), "\u2013"),
        (None, "\u2013"),
        (True, "\u2013"),
    ],
)
def test_numbers_are_written_for_people(value: Any, shown: str) -> None:
    assert number(value) == shown


def test_units_are_written_for_people() -> None:
    space = "\u202f"
    assert [size_of(5), size_of(839_182), size_of(2_500_000)] == [
        f"5{space}B",
        f"839{space}kB",
        f"2.5{space}MB",
    ]
    assert [duration(0.0001084), duration(0.93), duration(75), duration(600), duration(9000)] == [
        f"108{space}\u00b5s", f"930{space}ms", f"75{space}s", f"10{space}min", f"2.5{space}h",
    ]  # fmt: skip
    assert [money(12.5, "EUR"), money(0.00002, "EUR"), money(0, "")] == [
        f"12.50{space}EUR",
        f"0.000020{space}EUR",
        "0.00",
    ]
    assert percent(0.256) == f"25.6{space}%"


@given(st.text())
def test_escaped_texts_hold_no_markup(text: str) -> None:
    shown = escaped(text)
    assert not set("<>\"'") & set(shown)
    shown.encode()


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    high = low + span
    if high <= low:
        return
    ticks = nice_ticks(low, high)
    assert len(ticks) <= 12
    assert ticks == sorted(ticks)
    margin = (high - low) * 1e-6 + abs(low) * 1e-9
    assert all(low - margin <= tick <= high + margin for tick in ticks)
