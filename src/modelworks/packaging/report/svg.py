"""A small drawing board: data coordinates in, inline SVG out. Colours and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from modelworks.packaging.report.figures import escaped, number

Format = Callable[[float], str]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round values inside ``[low, high]``, about ``count`` of them (steps of 1, 2 or 5)."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if raw <= factor * power * 1.0001)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def padded(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """Return a range a little wider than its data, never empty."""
    span = high - low
    if span <= 0:
        span = abs(high) or 1.0
    return low - span * share, high + span * share


class Plot:
    """One chart with a frame, axes and marks.

    Args:
        title: What it shows; read aloud and shown on hover.
        x, y: Data ranges.
        size: Width and height in user units; the page scales it.
        margin: Left, right, top, bottom.
        x_label, y_label: Axis titles.
        x_format, y_format: How tick values are written; ``None`` draws no ticks.
    """

    def __init__(
        self,
        title: str,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        size: tuple[int, int] = (460, 300),
        margin: tuple[int, int, int, int] = (54, 14, 12, 42),
        x_label: str = "",
        y_label: str = "",
        x_format: Format | None = number,
        y_format: Format | None = number,
    ) -> None:
        self.title, self.size, self.margin = title, size, margin
        self._x, self._y = x, y
        self._parts: list[str] = []
        self._axes(x_label, y_label, x_format, y_format)

    def px(self, value: float) -> float:
        """Return the horizontal place of a value; values outside are drawn at the edge."""
        low, high = self._x
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return round(self.margin[0] + share * (self.size[0] - self.margin[0] - self.margin[1]), 1)

    def py(self, value: float) -> float:
        """Return the vertical place of a value; values outside are drawn at the edge."""
        low, high = self._y
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return round(
            self.size[1] - self.margin[3] - share * (self.size[1] - self.margin[2] - self.margin[3]), 1
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        """Draw a line through points."""
        points = " ".join(f"{self.px(x):g},{self.py(y):g}" for x, y in zip(xs, ys, strict=False))
        self._parts.append(f'<polyline class="{style}" points="{points}"/>')

    def band(self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], style: str) -> None:
        """Fill between two lines."""
        there = [f"{self.px(x):g},{self.py(y):g}" for x, y in zip(xs, highs, strict=False)]
        back = [f"{self.px(x):g},{self.py(y):g}" for x, y in zip(xs, lows, strict=False)]
        self._parts.append(f'<polygon class="{style}" points="{" ".join(there + back[::-1])}"/>')

    def bar(self, left: float, right: float, bottom: float, top: float, style: str, tip: str = "") -> None:
        """Draw a rectangle between data coordinates."""
        x0, x1 = sorted((self.px(left), self.px(right)))
        y0, y1 = sorted((self.py(bottom), self.py(top)))
        shape = f'x="{x0:g}" y="{y0:g}" width="{max(x1 - x0, 0.5):.3g}" height="{max(y1 - y0, 0):.4g}"'
        self._add(f'<rect class="{style}" {shape}', tip)

    def dot(self, x: float, y: float, radius: float, style: str, tip: str = "") -> None:
        """Draw a point."""
        self._add(f'<circle class="{style}" cx="{self.px(x):g}" cy="{self.py(y):g}" r="{radius:g}"', tip)

    def segment(self, x0: float, y0: float, x1: float, y1: float, style: str) -> None:
        """Draw a straight line between two points."""
        start, end = (
            f'x1="{self.px(x0):g}" y1="{self.py(y0):g}"',
            f'x2="{self.px(x1):g}" y2="{self.py(y1):g}"',
        )
        self._parts.append(f'<line class="{style}" {start} {end}/>')

    def label(
        self, x: float, y: float, text: str, style: str = "tick", *, dx: float = 0, dy: float = 0
    ) -> None:
        """Write a text at a data point, moved by ``dx, dy`` user units."""
        place = f'x="{self.px(x) + dx:g}" y="{self.py(y) + dy:g}"'
        self._parts.append(f'<text class="{style}" {place}>{escaped(text)}</text>')

    def write(self, x: float, y: float, text: str, style: str = "tick") -> None:
        """Write a text at user units."""
        self._parts.append(f'<text class="{style}" x="{x:g}" y="{y:g}">{escaped(text)}</text>')

    def turned(self, x: float, y: float, text: str, style: str = "axis-label middle") -> None:
        """Write a text upwards at user units, an axis title by default."""
        where = f'transform="rotate(-90 {x:g} {y:g})" x="{x:g}" y="{y:g}"'
        self._parts.append(f'<text class="{style}" {where}>{escaped(text)}</text>')

    def render(self, style: str = "plot", *, stretched: bool = False) -> str:
        """Return the ``svg`` element; ``stretched`` lets the page widen it without keeping its proportions."""
        width, height = self.size
        name = escaped(self.title)
        stretch = 'preserveAspectRatio="none" ' if stretched else ""
        return (
            f'<svg class="{style}" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'{stretch}role="img" aria-label="{name}">'
            f"<title>{name}</title>{''.join(self._parts)}</svg>"
        )

    def _add(self, start: str, tip: str) -> None:
        name = start[1 : start.index(" ")]
        self._parts.append(f"{start}><title>{escaped(tip)}</title></{name}>" if tip else f"{start}/>")

    def _axes(self, x_label: str, y_label: str, x_format: Format | None, y_format: Format | None) -> None:
        left, right, top, bottom = self.margin
        width, height = self.size
        floor = height - bottom
        if y_format:
            for value in nice_ticks(*self._y):
                place = self.py(value)
                self._parts.append(
                    f'<line class="grid" x1="{left}" x2="{width - right}" y1="{place:g}" y2="{place:g}"/>'
                )
                self.write(left - 6, place + 3.5, y_format(value), "tick end")
        if x_format:
            for value in nice_ticks(*self._x):
                place = self.px(value)
                self._parts.append(
                    f'<line class="grid" x1="{place:g}" x2="{place:g}" y1="{top}" y2="{floor}"/>'
                )
                self.write(place, floor + 15, x_format(value), "tick middle")
            self._parts.append(
                f'<line class="axis" x1="{left}" x2="{width - right}" y1="{floor}" y2="{floor}"/>'
            )
        if x_label:
            self.write((left + width - right) / 2, height - 6, x_label, "axis-label middle")
        if y_label:
            self.turned(12, (top + floor) / 2, y_label)
