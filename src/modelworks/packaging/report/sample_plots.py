"""Charts of samples: embedding maps, curves as thumbnails, forecasts with intervals, anomaly timelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from modelworks.packaging.report.figures import number
from modelworks.packaging.report.svg import Plot, padded

_WIDE = 860
_POINTS = 800
"""Points of a line at most: more cannot be told apart on a page; each kept span shows its lowest and highest."""


def map_plot(
    xs: Sequence[float], ys: Sequence[float], truth: Sequence[str], right: Sequence[bool]
) -> tuple[str, list[str]]:
    """Draw samples by class; returns the drawing and the class of each colour, the most frequent first."""
    names = [name for name, _ in Counter(truth).most_common()]
    shown = names[:8] if len(names) <= 8 else [*names[:7], "others"]
    plot = Plot(
        "Map of embeddings", padded(min(xs), max(xs)), padded(min(ys), max(ys)), size=(_WIDE, 420),
        margin=(14, 14, 12, 14), x_format=None, y_format=None,
    )  # fmt: skip
    places = {name: min(index, len(shown) - 1) for index, name in enumerate(names)}
    for x, y, name, good in zip(xs, ys, truth, right, strict=True):
        colour = f"p{places[name]}"
        plot.dot(x, y, 3.4 if good else 4.2, f"{colour} light" if good else f"{colour} hollow", name)
    return plot.render("plot wide"), shown


def curve_thumbnail(channels: Sequence[Sequence[float]]) -> str:
    """Draw a short series as a small picture, each channel on the scale of all."""
    values = [value for channel in channels for value in channel]
    longest = max(len(channel) for channel in channels)
    plot = Plot(
        "series", (0, max(1, longest - 1)), padded(min(values), max(values)), size=(180, 72), margin=(2, 2, 3, 3),
        x_format=None, y_format=None,
    )  # fmt: skip
    for channel, style in zip(channels, ("line one", "line two", "line three"), strict=False):
        places, kept = thinned(channel, 180)
        plot.line(places, kept, style)
    return plot.render("curve")


def forecast_plot(
    name: str,
    history: Sequence[float],
    prediction: Sequence[float],
    band: tuple[Sequence[float], Sequence[float]] | None,
    actual: Sequence[float],
) -> str:
    """Draw the end of a history, the forecast with its band, and what came."""
    known = [*history, *prediction, *actual, *(band[0] if band else ()), *(band[1] if band else ())]
    start, ahead = len(history), range(len(history), len(history) + len(prediction))
    plot = Plot(
        f"Forecast of {name}" if name else "Forecast", (0, start + len(prediction) - 1 or 1),
        padded(min(known), max(known)), size=(460, 240), x_format=None, y_format=lambda value: number(value, 3),
    )  # fmt: skip
    if band:
        plot.band(list(ahead), band[0], band[1], "band")
    plot.line(*thinned(history), "line past")
    plot.line(list(ahead), prediction, "line one")
    if actual:
        plot.line(list(ahead), actual, "line two")
    low, _ = padded(min(known), max(known))
    plot.segment(start - 0.5, low, start - 0.5, max(known), "diagonal")
    return plot.render()


def timeline_plot(
    name: str,
    values: Sequence[float],
    scores: Sequence[float],
    threshold: float | None,
    events: Sequence[tuple[float, float]],
) -> str:
    """Draw a stream over its anomaly score; both are scaled to half of the height."""
    length = len(values)
    plot = Plot(
        f"Stream {name} and its anomaly score", (0, length - 1), (0, 2), size=(_WIDE, 240),
        margin=(14, 14, 10, 24), x_label="time step", x_format=None, y_format=None,
    )  # fmt: skip
    for start, end in events:
        plot.bar(
            max(0.0, start), min(length - 1.0, end), 0, 2, "fill soft", f"labelled event, step {start:g}"
        )
    low, high = padded(min(values), max(values))
    top = max(*scores, threshold or 0.0, 1e-12) * 1.05
    floor = min(*scores, 0.0)
    places, kept = thinned(values)
    plot.line(places, [1.05 + 0.95 * (value - low) / (high - low) for value in kept], "line past")

    def height(score: float) -> float:
        return 0.95 * (score - floor) / (top - floor)

    places, kept = thinned(scores)
    plot.line(places, [height(score) for score in kept], "line one")
    if threshold is not None:
        plot.segment(0, height(threshold), length - 1, height(threshold), "diagonal")
        alarms = [index for index, score in enumerate(scores) if score >= threshold]
        for index in alarms[:: max(1, len(alarms) // _POINTS)]:
            plot.dot(
                index, height(scores[index]), 2.6, "dot bad", f"step {index}: {number(scores[index], 3)}"
            )
    return plot.render("plot wide")


def thinned(values: Sequence[float], points: int = _POINTS) -> tuple[list[float], list[float]]:
    """Return places and values of a line; a long one keeps the lowest and the highest of each span."""
    if len(values) <= points:
        return [float(index) for index in range(len(values))], list(values)
    span = -(-2 * len(values) // points)
    kept: list[int] = []
    for start in range(0, len(values), span):
        block = range(start, min(start + span, len(values)))
        kept += sorted({min(block, key=values.__getitem__), max(block, key=values.__getitem__)})
    return [float(index) for index in kept], [values[index] for index in kept]
