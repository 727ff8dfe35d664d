"""The charts of the reports, each a function from plain numbers to one inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelworks.packaging.report.figures import duration, floats, is_number, number, percent, plural, whole
from modelworks.packaging.report.svg import Plot, padded

SHARES = (0.0, 1.0)
WIDE = 860
FEW_CLASSES = 14
"""Classes up to which a confusion stands beside other pictures; a larger one has a line of its own."""
_SMALL = 19


def calibration_plot(bins: Sequence[Mapping[str, Any]], of: str) -> str:
    """Draw what was claimed against what came true, with the interval of each group and the claims' histogram."""
    plot = Plot(
        "Calibration: claimed probability against the share that came true", SHARES, SHARES, size=(460, 340),
        x_label=f"claimed probability of {of}", y_label="share that came true", x_format=_tenth, y_format=_tenth,
    )  # fmt: skip
    largest = max(1, *(whole(item, "n") for item in bins))
    for item in bins:
        half = 0.012
        plot.bar(
            item["predicted"] - half, item["predicted"] + half, 0, 0.14 * whole(item, "n") / largest, "ghost",
            plural(whole(item, "n"), "row"),
        )  # fmt: skip
    plot.segment(0, 0, 1, 1, "diagonal")
    xs = [item["predicted"] for item in bins]
    plot.band(xs, [item["low"] for item in bins], [item["high"] for item in bins], "band")
    plot.line(xs, [item["observed"] for item in bins], "line one")
    for item in bins:
        tip = (
            f"claimed {percent(item['predicted'])}, came true {percent(item['observed'])} "
            f"({percent(item['low'])} to {percent(item['high'])}), {plural(whole(item, 'n'), 'row')}"
        )
        plot.dot(item["predicted"], item["observed"], 3.5, "dot one", tip)
    return plot.render()


def curve_plot(points: Mapping[str, Any], kind: str, base: float | None) -> str:
    """Draw a ROC (``roc``) or precision-recall (``pr``) curve; ``base``: height of a blind guess in the latter."""
    xs, ys = floats(points, "x"), floats(points, "y")
    if kind == "roc":
        plot = Plot(
            "ROC curve", SHARES, SHARES, size=(460, 340), x_label="false alarms (share of negatives)",
            y_label="found (share of positives)", x_format=_tenth, y_format=_tenth,
        )  # fmt: skip
        plot.segment(0, 0, 1, 1, "diagonal")
    else:
        plot = Plot(
            "Precision-recall curve", SHARES, SHARES, size=(460, 340), x_label="recall (share of positives found)",
            y_label="precision (share of alarms that are right)", x_format=_tenth, y_format=_tenth,
        )  # fmt: skip
        if base is not None:
            plot.segment(0, base, 1, base, "diagonal")
            plot.label(1, base, "blind guess", "tick end", dy=-5)
    plot.band(xs, [0.0] * len(xs), ys, "under")
    plot.line(xs, ys, "line one")
    return plot.render()


def thresholds_plot(rows: Sequence[Mapping[str, Any]], chosen: float | None) -> str:
    """Draw precision, recall and the share of flagged rows over the decision threshold."""
    plot = Plot(
        "What happens at each threshold", SHARES, SHARES, size=(460, 340), x_label="decision threshold",
        y_label="share", x_format=_tenth, y_format=_tenth,
    )  # fmt: skip
    xs = [row["threshold"] for row in rows]
    for name, style in (("precision", "line one"), ("recall", "line two"), ("flagged", "line three")):
        plot.line(xs, [row[name] for row in rows], style)
    if chosen is not None:
        plot.segment(chosen, 0, chosen, 1, "diagonal")
        plot.label(chosen, 1, f"used: {number(chosen, 3)}", "tick", dx=4, dy=10)
    return plot.render()


def confusion_plot(labels: Sequence[str], counts: Sequence[Sequence[float]]) -> str:
    """Draw a heat map of true class (rows) against named class (columns), shaded by the share of the true class."""
    count = len(labels)
    many = count > FEW_CLASSES
    cell = _SMALL if many else min(84, 420 // count)
    longest = min(18, max(len(str(label)) for label in labels)) * 7
    left, below = 34 + min(130, longest), (30 + longest if many else 40)
    size = (left + cell * count + 14, 10 + cell * count + below)
    plot = Plot(
        "Confusion matrix: true class by row, named class by column", (0, count), (0, count), size=size,
        margin=(left, 14, 10, below), x_format=None, y_format=None,
    )  # fmt: skip
    for row, line in enumerate(counts):
        total = sum(line) or 1.0
        for column, value in enumerate(line):
            share = value / total
            shade = f"{'hit' if row == column else 'miss'} h{min(10, round(share * 10))}"
            tip = f"true {labels[row]}, named {labels[column]}: {number(float(value))} ({percent(share)} of the true)"
            plot.bar(column, column + 1, count - row - 1, count - row, f"cell {shade}", tip)
            if cell >= 34:
                shown = number(float(value), 3)
                dark = " on" if share >= 0.55 else ""
                plot.label(
                    column + 0.5,
                    count - row - 0.5,
                    shown,
                    f"cell-text middle{dark}",
                    dy=4 if cell < 60 else 0,
                )
                if cell >= 60:
                    plot.label(
                        column + 0.5, count - row - 0.5, percent(share, 0), f"cell-share middle{dark}", dy=15
                    )
        plot.write(left - 8, 10 + cell * (row + 0.5) + 4, cut(labels[row], 18), "tick end")
    for column, label in enumerate(labels):
        if many:
            plot.turned(left + cell * (column + 0.5) + 4, 10 + cell * count + 6, cut(label, 18), "tick end")
        else:
            room = max(3, cell // 7)
            plot.write(left + cell * (column + 0.5), 10 + cell * count + 15, cut(label, room), "tick middle")
    plot.write(left + cell * count / 2, size[1] - 6, "named by the model", "axis-label middle")
    plot.turned(12, 10 + cell * count / 2, "true class")
    return plot.render("plot whole" if many else "plot square")


def scatter_plot(truth: Sequence[float], predicted: Sequence[float], target: str) -> str:
    """Draw predicted against actual values with the line where they are equal."""
    limits = padded(min(*truth, *predicted), max(*truth, *predicted), 0.03)
    plot = Plot(
        "Predicted against actual", limits, limits, size=(460, 340), margin=(64, 14, 12, 42),
        x_label=f"actual {target}", y_label="predicted", x_format=_short, y_format=_short,
    )  # fmt: skip
    plot.segment(limits[0], limits[0], limits[1], limits[1], "diagonal")
    for x, y in zip(truth, predicted, strict=False):
        plot.dot(x, y, 2.6, "dot faint")
    return plot.render()


def histogram_plot(histogram: Mapping[str, Any], title: str, x_label: str, zero: bool = False) -> str:
    """Draw a histogram of ``{edges, counts}``."""
    edges, counts = floats(histogram, "edges"), floats(histogram, "counts")
    plot = Plot(
        title, (edges[0], edges[-1]), (0, max(counts) * 1.05 or 1), size=(460, 260), x_label=x_label,
        y_label="rows", x_format=_short, y_format=_short,
    )  # fmt: skip
    for index, count in enumerate(counts):
        tip = f"{number(edges[index], 3)} to {number(edges[index + 1], 3)}: {plural(int(count), 'row')}"
        plot.bar(edges[index], edges[index + 1], 0, count, "fill one", tip)
    if zero and edges[0] < 0 < edges[-1]:
        plot.segment(0, 0, 0, max(counts) * 1.05, "diagonal")
    return plot.render()


def error_deciles_plot(groups: Sequence[Mapping[str, Any]]) -> str:
    """Draw bias and mean absolute error in ten groups of rows by prediction."""
    values = [item[name] for item in groups for name in ("mean_error", "mean_absolute_error")]
    low, high = padded(min(0.0, *values), max(0.0, *values))
    plot = Plot(
        "Error by predicted value", (0, len(groups)), (low, high), size=(460, 260), margin=(64, 14, 12, 42),
        x_label="tenth of the rows, smallest predictions first", y_label="error", x_format=None, y_format=_short,
    )  # fmt: skip
    for index, item in enumerate(groups):
        span = f"predicted {number(item['predicted_low'], 3)} to {number(item['predicted_high'], 3)}"
        absolute, bias = item["mean_absolute_error"], item["mean_error"]
        plot.bar(
            index + 0.18,
            index + 0.82,
            0,
            absolute,
            "fill soft",
            f"{span}: mean absolute error {number(absolute, 3)}",
        )
        plot.dot(index + 0.5, bias, 4, "dot two", f"{span}: mean error {number(bias, 3)}")
        plot.write(plot.px(index + 0.5), 260 - 26, str(index + 1), "tick middle")
    plot.segment(0, 0, len(groups), 0, "axis")
    return plot.render()


def forest_plot(
    rows: Sequence[tuple[str, float, float | None, float | None, str, str]],
    *,
    title: str,
    reference: float | None,
) -> str:
    """Draw values with intervals, one below the other: ``(name, value, low, high, style, note)``."""
    ends = [end for _, value, low, high, _, _ in rows for end in (value, low, high) if end is not None]
    if reference is not None:
        ends.append(reference)
    left, height = 190, 26
    plot = Plot(
        title, padded(min(ends), max(ends), 0.08), (0, len(rows)), size=(WIDE, len(rows) * height + 36),
        margin=(left, 150, 8, 28), x_format=_short, y_format=None,
    )  # fmt: skip
    if reference is not None:
        plot.segment(reference, 0, reference, len(rows), "diagonal")
    for index, (name, value, low, high, style, note) in enumerate(rows):
        place = len(rows) - index - 0.5
        if low is not None and high is not None:
            plot.segment(low, place, high, place, f"whisker {style}")
        plot.dot(value, place, 5, f"dot {style}", f"{name}: {note}")
        plot.write(left - 10, 8 + index * height + height / 2 + 4, cut(name, 27), "row-label end")
        plot.write(WIDE - 142, 8 + index * height + height / 2 + 4, note, "tick")
    return plot.render("plot wide")


def bars_plot(rows: Sequence[tuple[str, float, float | None, str]], *, title: str) -> str:
    """Draw horizontal bars with an error whisker: ``(name, value, error, note)``."""
    highest = max((value + (error or 0) for _, value, error, _ in rows), default=1.0)
    lowest = min([0.0, *(value - (error or 0) for _, value, error, _ in rows)])
    left, height = 190, 24
    plot = Plot(
        title, (lowest, highest * 1.02 or 1.0), (0, len(rows)), size=(WIDE, len(rows) * height + 32),
        margin=(left, 120, 6, 26), x_format=_short, y_format=None,
    )  # fmt: skip
    for index, (name, value, error, note) in enumerate(rows):
        place = len(rows) - index - 0.5
        plot.bar(
            0, value, place - 0.32, place + 0.32, "fill one" if value >= 0 else "ghost", f"{name}: {note}"
        )
        if error:
            plot.segment(value - error, place, value + error, place, "whisker plain")
        plot.write(left - 10, 6 + index * height + height / 2 + 4, cut(name, 27), "row-label end")
        plot.write(WIDE - 112, 6 + index * height + height / 2 + 4, note, "tick")
    return plot.render("plot wide")


def stacked_bar(parts: Sequence[tuple[str, float, str]], title: str) -> str:
    """Draw one bar of coloured parts: ``(name, value, note)``; the legend is the table beside it."""
    total = sum(value for _, value, _ in parts) or 1.0
    plot = Plot(
        title, (0, total), (0, 1), size=(WIDE, 26), margin=(0, 0, 2, 2), x_format=None, y_format=None,
    )  # fmt: skip
    start = 0.0
    for index, (name, value, note) in enumerate(parts):
        plot.bar(start, start + value, 0, 1, f"fill p{index % 8}", f"{name}: {note}")
        start += value
    return plot.render("plot full", stretched=True)


def outcome_bar(parts: Sequence[tuple[str, int, str]]) -> str:
    """Draw how many lines ended in each way: ``(name, count, style)``."""
    total = sum(count for _, count, _ in parts) or 1
    plot = Plot(
        "How the lines ended", (0, total), (0, 1), size=(WIDE, 22), margin=(0, 0, 1, 1), x_format=None, y_format=None,
    )  # fmt: skip
    start = 0
    for name, count, style in parts:
        plot.bar(start, start + count, 0, 1, style, f"{name}: {count:,}")
        start += count
    return plot.render("plot full", stretched=True)


def learning_plot(points: Sequence[Mapping[str, Any]]) -> str:
    """Draw the cost of task n in the order the tasks ended, with a running median of up to nine tasks."""
    shared = [item for item in points if item.get("shared", True)]
    alone = [item for item in points if not item.get("shared", True)]
    highest = max(item["cpu_s"] for item in points)
    plot = Plot(
        "Cost of task n", (0.5, max(item["n"] for item in points) + 0.5), (0, highest * 1.06 or 1.0), size=(WIDE, 270),
        x_label="task n, in the order they ended", y_label="CPU-seconds", x_format=_whole, y_format=_short,
    )  # fmt: skip
    for group, style in ((alone, "two"), (shared, "one")):
        for item in group:
            tip = f"task {item['n']}: {duration(item['cpu_s'])} of CPU"
            plot.dot(item["n"], item["cpu_s"], 3 if len(points) > 60 else 4, f"dot {style} light", tip)
        if len(group) >= 5:
            middle = _running_median([item["cpu_s"] for item in group])
            plot.line([item["n"] for item in group], middle, f"line {style}")
    return plot.render("plot wide")


def spark(histogram: Mapping[str, Any] | None, top: Sequence[Any], rows: int) -> str:
    """Draw a column's distribution small enough for a table cell."""
    counts = floats(histogram, "counts") if histogram else []
    named = [f"bin {index + 1}" for index in range(len(counts))]
    if not counts:
        pairs = [item for item in top[:12] if isinstance(item, (list, tuple)) and len(item) == 2]
        shown = [(str(name), float(count)) for name, count in pairs if is_number(count)]
        named, counts = [name for name, _ in shown], [count for _, count in shown]
    if not counts or max(counts) <= 0:
        return ""
    plot = Plot(
        "Distribution", (0, max(len(counts), 6)), (0, max(counts)), size=(110, 26), margin=(0, 0, 1, 1), x_format=None,
        y_format=None,
    )  # fmt: skip
    for index, count in enumerate(counts):
        tip = f"{named[index]}: {number(int(count))}" + (f" ({percent(count / rows)})" if rows else "")
        plot.bar(index + 0.08, index + 0.92, 0, count, "fill one" if histogram else "fill two", tip)
    return plot.render("spark")


def interval_strip(
    value: float, low: float, high: float, scale: tuple[float, float], chance: float | None
) -> str:
    """Draw a value and its interval on a small scale for a table cell."""
    plot = Plot(
        f"{number(value)} between {number(low)} and {number(high)}", scale, (0, 1), size=(120, 16), margin=(4, 4, 1, 1),
        x_format=None, y_format=None,
    )  # fmt: skip
    plot.segment(scale[0], 0.5, scale[1], 0.5, "rail")
    if chance is not None:
        plot.segment(chance, 0.05, chance, 0.95, "diagonal")
    plot.segment(low, 0.5, high, 0.5, "whisker one")
    plot.dot(value, 0.5, 3.6, "dot one")
    return plot.render("strip")


def share_bar(share: float, tip: str) -> str:
    """Draw a share of the largest as a small bar for a table cell."""
    plot = Plot(
        tip, (0, 1), (0, 1), size=(90, 12), margin=(0, 0, 1, 1), x_format=None, y_format=None,
    )  # fmt: skip
    plot.bar(0, 1, 0, 1, "trough")
    plot.bar(0, share, 0, 1, "fill one")
    return plot.render("bar")


def _running_median(values: Sequence[float]) -> list[float]:
    found = []
    for index in range(len(values)):
        window = sorted(values[max(0, index - 4) : index + 5])
        found.append(window[len(window) // 2])
    return found


def cut(text: Any, room: int) -> str:
    """Return a text of at most so many characters; where it was longer, three dots are the last."""
    shown = str(text)
    return shown if len(shown) <= room else shown[: max(1, room - 1)] + "\u2026"


def _tenth(value: float) -> str:
    return f"{value:.1f}"


def _whole(value: float) -> str:
    return f"{int(value)}" if value == int(value) else ""


def _short(value: float) -> str:
    """Return a tick label of few characters."""
    size = abs(value)
    for factor, mark in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= factor:
            return f"{value / (1e3 if mark == 'k' else factor):g}{mark}"
    return f"{value:g}"
