"""Charts of samples: embedding maps, curves as thumbnails, forecasts with intervals, anomaly timelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from modelworks.packaging.report.figures import number
from modelworks.packaging.report.svg import Plot, nice_ticks, padded

_WIDE = 860
_POINTS = 800
"""Points of a line at most: more cannot be told apart on a page; each kept span shows its lowest and highest."""


def map_plot(
    xs: Sequence[float], ys: Sequence[float], truth: Sequence[str], right: Sequence[bool]
) -> tuple[str, list[str]]:
    """Draw samples by class; returns the drawing and the class of each colour, the most frequent first.

    Of more than eight classes those with the most errors have a colour, and the others share one.
    """
    names = [name for name, _ in Counter(truth).most_common()]
    if len(names) > 8:
        wrong = Counter(name for name, good in zip(truth, right, strict=True) if not good)
        names.sort(key=lambda name: -wrong[name])
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
    history: Sequence[float | None],
    prediction: Sequence[float],
    band: tuple[Sequence[float], Sequence[float]] | None,
    actual: Sequence[float | None],
) -> str:
    """Draw the end of a history, the forecast with its band, and what came; ``None`` is a missing value, a gap."""
    lines = [history, prediction, actual, *(band or ())]
    known = [value for line in lines for value in line if value is not None]
    back, ahead = [float(place - len(history) + 1) for place in range(len(history))], len(prediction)
    span = padded(min(known), max(known))
    plot = Plot(
        f"Forecast of {name}" if name else "Forecast", (back[0], ahead), span, size=(460, 250),
        x_label="steps from the last known value", y_format=lambda value: number(value, 3),
    )  # fmt: skip
    # The lines ahead begin at the last known value, as an eye follows them.
    first = [(0.0, history[-1])] if history[-1] is not None else []
    steps = [place for place, _ in first] + [float(step + 1) for step in range(ahead)]
    joined = [value for _, value in first if value is not None]
    if band:
        plot.band(steps, [*joined, *band[0]], [*joined, *band[1]], "band")
    plot.segment(0, span[0], 0, span[1], "diagonal")
    for line, places, style in (
        (history, back, "line past"),
        ([*joined, *prediction], steps, "line one"),
        ([*joined, *actual] if actual else [], steps, "line two"),
    ):
        for xs, ys in unbroken(places, line):
            plot.line(*(_thinned_line(xs, ys)), style)
    return plot.render()


def unbroken(
    places: Sequence[float], values: Sequence[float | None]
) -> Iterator[tuple[list[float], list[float]]]:
    """Yield the stretches of a line between missing values; a value that stands alone is a short dash."""
    xs: list[float] = []
    ys: list[float] = []
    for place, value in [*zip(places, values, strict=False), (0.0, None)]:
        if value is not None:
            xs.append(place)
            ys.append(value)
        elif ys:
            yield (xs, ys) if len(ys) > 1 else ([xs[0] - 0.4, xs[0] + 0.4], [ys[0], ys[0]])
            xs, ys = [], []


def _thinned_line(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    kept, values = thinned(ys)
    return [xs[int(index)] for index in kept], values


def timeline_plot(
    name: str,
    steps: Sequence[float],
    values: Sequence[float],
    scores: Sequence[float],
    threshold: float | None,
    events: Sequence[tuple[float, float]],
) -> str:
    """Draw a stream over its anomaly score; both are scaled to half of the height.

    Args:
        name: Of the stream.
        steps: Place of each value in its stream, ascending.
        values, scores: Of the places.
        threshold: Score from which there is an alarm.
        events: First and last step of each labelled event.
    """
    start, end = steps[0], steps[-1]
    low, high = padded(min(values), max(values))
    top = max(*scores, threshold or 0.0, 1e-12) * 1.05
    floor = min(*scores, 0.0)
    plot = Plot(
        f"Stream {name} and its anomaly score", (start, end), (0, 2.05), size=(_WIDE, 270),
        margin=(64, 14, 10, 42), x_label="time step", x_format=lambda value: f"{value:,.0f}", y_format=None,
    )  # fmt: skip
    for first, last in events:
        # An event is at least three pixels wide, or nobody sees it.
        reach = max(last - first, 3 * (end - start) / _WIDE)
        plot.bar(
            max(start, first),
            min(end, first + reach),
            0,
            2.05,
            "fill event",
            f"labelled event, step {first:g}",
        )

    def place(value: float) -> float:
        return 1.1 + 0.95 * (value - low) / (high - low)

    def height(score: float) -> float:
        return 0.95 * (score - floor) / (top - floor)

    for tick in nice_ticks(low, high, 3):
        plot.write(58, plot.py(place(tick)) + 3.5, number(tick, 3), "tick end")
    plot.turned(12, plot.py(1.57), "stream")
    plot.turned(12, plot.py(0.5), "score")
    plot.line(*_thinned_line(steps, [place(value) for value in values]), "line past")
    plot.line(*_thinned_line(steps, [height(score) for score in scores]), "line one")
    if threshold is not None:
        plot.segment(start, height(threshold), end, height(threshold), "diagonal")
        plot.write(58, plot.py(height(threshold)) + 3.5, number(threshold, 3), "tick end")
        alarms = [index for index, score in enumerate(scores) if score >= threshold]
        for index in alarms[:: max(1, len(alarms) // _POINTS)]:
            tip = f"step {steps[index]:g}: {number(scores[index], 3)}"
            plot.dot(steps[index], height(scores[index]), 2.6, "dot bad", tip)
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
