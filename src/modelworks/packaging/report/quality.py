"""The sections of a model report that show how good the model is, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.packaging.report import page, plots
from modelworks.packaging.report.figures import (
    breakable,
    complete,
    entries,
    escaped,
    floats,
    is_number,
    mapping,
    maybe,
    metric_name,
    number,
    percent,
    plural,
    records,
    rough,
    whole,
    words,
)

FORTY = 40


def measures_section(evaluation: Mapping[str, Any]) -> str:
    """Return the table of measures, each with its interval and what a blind guess would reach."""
    measures = [item for item in records(evaluation, "measures") if is_number(item.get("value"))]
    if not measures:
        return ""
    chance = mapping(evaluation, "chance")
    rows, marks = [], []
    for item in measures:
        found = chance.get(str(item.get("name")))
        blind = float(found) if is_number(found) else None
        known = is_number(item.get("low")) and is_number(item.get("high"))
        strip = _strip(item, blind) if known else ""
        between = f"{number(item['low'])} to {number(item['high'])}" if known else ""
        better = "higher is better" if item.get("higher_is_better", True) else "lower is better"
        rows.append(
            [
                escaped(metric_name(item.get("name"))), number(item["value"]), strip, between,
                number(blind) if blind is not None else "", escaped(better), escaped(item.get("method", "")),
            ]
        )  # fmt: skip
        marks.append("primary" if item.get("name") == evaluation.get("metric") else "")
    heads = [
        ("Measure", "name"), ("Value", "figure"), ("", ""), (f"{_level(measures[0])} interval", "nowrap"),
        ("Blind guess", "figure"), ("Direction", "nowrap"), ("Method", "nowrap"),
    ]  # fmt: skip
    rows_judged = whole(evaluation, "rows") or whole(measures[0], "n")
    said = f"On {plural(rows_judged, 'sealed test row')}, " if rows_judged else ""
    looks = whole(evaluation, "look")
    seen = f" These rows were looked at {plural(looks, 'time')}." if looks > 1 else ""
    undefined = mapping(evaluation, "undefined")
    left = "; ".join(f"{metric_name(name)}: {why}" for name, why in undefined.items())
    return (
        page.note(
            f"{said}all computed by the shipped graph. The highlighted measure is the one the gate is about.{seen}"
        )
        + page.table(heads, rows, marks)
        + (page.note(f"Not defined here: {left}.") if left else "")
    )


def comparison_section(evaluation: Mapping[str, Any]) -> str:
    """Return the model beside its baselines and the champion it would replace, with paired tests."""
    metric = evaluation.get("metric")
    own = next(
        (item for item in complete(records(evaluation, "measures"), "value") if item.get("name") == metric),
        None,
    )
    baselines = [item for item in records(evaluation, "baselines") if is_number(item.get("value"))]
    tests = mapping(evaluation, "comparisons")
    champion = mapping(evaluation, "comparison")
    if own is None or not (baselines or champion):
        return ""
    up = bool(own.get("higher_is_better", True))
    rows = [("this model", own["value"], maybe(own, "low"), maybe(own, "high"), "one", _between(own))]
    for item in sorted(baselines, key=lambda found: found["value"], reverse=up):
        rows.append(
            (
                f"baseline: {item.get('name', '')}",
                item["value"],
                maybe(item, "low"),
                maybe(item, "high"),
                "other",
                number(item["value"]),
            )
        )
    if is_number(champion.get("other")):
        rows.append(("champion", champion["other"], None, None, "wait", number(champion["other"])))
        tests = {**tests, "champion": champion}
    drawing = plots.forest_plot(
        rows, title=f"{metric_name(metric)} of the model and its baselines", reference=None
    )
    lines = [
        [
            escaped(name), number(test.get("difference")), f"{number(test.get('low'))} to {number(test.get('high'))}",
            _p_value(test.get("p_value")), escaped(test.get("method", "")), page.pill(*_outcome(test)),
        ]
        for name, test in tests.items()
        if isinstance(test, Mapping) and is_number(test.get("difference"))
    ]  # fmt: skip
    heads = [
        ("Compared with", "name"), ("Better by", "figure"), ("95\u202f% interval", "nowrap"),
        ("p (one-sided)", "figure"),
        ("Method", "nowrap"), ("Outcome", "nowrap"),
    ]  # fmt: skip
    direction = "higher is better" if up else "lower is better"
    return (
        page.figure(
            drawing, f"{metric_name(metric)}, {direction}; the line is the 95 % interval on the sealed rows."
        )
        + (page.table(heads, lines) if lines else "")
        + (page.note("Differences are paired: both models answered the same rows.") if lines else "")
    )


def shape_section(evaluation: Mapping[str, Any], fit: Mapping[str, Any], target: str) -> str:
    """Return the pictures of how the model errs: curves, calibration, confusion, residuals."""
    calibration = mapping(evaluation, "calibration")
    bins = complete(records(calibration, "bins"), "predicted", "observed", "low", "high", "n")
    curves, confusion = mapping(evaluation, "curves"), mapping(evaluation, "confusion")
    positive = (
        f"'{evaluation['positive']}'"
        if evaluation.get("positive") is not None
        else str(calibration.get("of", ""))
    )
    base = mapping(evaluation, "chance").get("average_precision")
    parts = []
    if bins:
        caption = f"Calibration error {number(calibration.get('ece'), 3)}. {_calibration_words(calibration)}"
        parts.append(page.figure(plots.calibration_plot(bins, positive), caption))
    for name in ("roc", "pr"):
        points = mapping(curves, name)
        if floats(points, "x") and floats(points, "y"):
            caption = (
                "The further from the dashed line, the better."
                if name == "roc"
                else "How many alarms are right as more positives are found."
            )
            parts.append(
                page.figure(plots.curve_plot(points, name, base if is_number(base) else None), caption)
            )
    parts += _threshold_parts(records(evaluation, "thresholds"), fit.get("threshold"))
    large = len(entries(confusion, "labels")) > plots.FEW_CLASSES and bool(entries(confusion, "counts"))
    parts += [] if large else _confusion_parts(confusion)
    parts += _residual_parts(evaluation, target)
    return page.side_by_side(*parts) + ("".join(_confusion_parts(confusion)) if large else "")


def slices_section(evaluation: Mapping[str, Any]) -> str:
    """Return quality on declared slices and the weak spots that were found."""
    metric = metric_name(evaluation.get("metric"))
    declared = records(evaluation, "slices")
    measured = [item for item in declared if is_number(item.get("value"))]
    whole = next(
        (item for item in records(evaluation, "measures") if item.get("name") == evaluation.get("metric")), {}
    )
    html = ""
    if measured:
        rows = [
            (
                str(item.get("slice", "")),
                item["value"],
                maybe(item, "low"),
                maybe(item, "high"),
                "one",
                f"{_between(item)}, n {item.get('n', '')}",
            )
            for item in measured[:FORTY]
        ]
        reference = whole.get("value") if is_number(whole.get("value")) else None
        drawing = plots.forest_plot(rows, title=f"{metric} by slice", reference=reference)
        html += page.figure(drawing, f"{metric} on each slice; the dashed line is the value on all rows.")
    unknown = [item for item in declared if not is_number(item.get("value"))]
    if unknown:
        listed = "; ".join(
            f"{item.get('slice', '')} ({item.get('reason') or 'too few rows'})" for item in unknown[:FORTY]
        )
        html += page.note(f"Not measured: {listed}.")
    found = records(evaluation, "found_slices")
    if found:
        heads = [
            ("Weak spot", "name"), ("Rows", "figure"), ("Loss there", "figure"), ("Loss elsewhere", "figure"),
            ("Difference", "nowrap"), ("p, adjusted", "figure"),
        ]  # fmt: skip
        lines = [
            [
                escaped(item.get("slice", "")), number(item.get("n")), number(item.get("loss")),
                number(item.get("loss_elsewhere")), f"{number(item.get('low'), 3)} to {number(item.get('high'), 3)}",
                _p_value(item.get("p_adjusted")),
            ]
            for item in found
        ]  # fmt: skip
        loss = found[0].get("of") or "loss"
        html += f"<h3>Weak spots nobody declared</h3>{page.table(heads, lines)}"
        html += page.note(
            f"Slices on which the {loss} is clearly larger than elsewhere; false discoveries are held at 5\u202f%."
        )
    return html


def labels_section(evaluation: Mapping[str, Any]) -> str:
    """Return the quality of each label of a multi-label task."""
    labels = records(evaluation, "labels")
    heads = [
        ("Label", "name"),
        ("Known rows", "figure"),
        ("Positives", "figure"),
        ("ROC AUC", "figure"),
        ("F1", "figure"),
        ("Accuracy", "figure"),
    ]
    rows = [
        [
            escaped(item.get("label", "")),
            *(number(item.get(name)) for name in ("rows", "positives", "roc_auc", "f1", "accuracy")),
        ]
        for item in labels
    ]
    return page.table(heads, rows) if rows else ""


def importance_section(evaluation: Mapping[str, Any]) -> str:
    """Return which raw columns the model leans on."""
    items = [item for item in records(evaluation, "importance") if is_number(item.get("value"))]
    if not items:
        return ""
    rows = []
    for item in items[:25]:
        error = item.get("error")
        note = rough(item["value"])
        if is_number(item.get("share")) and item["share"] > 0:
            note += f" ({percent(item['share'], 0)})"
        rows.append(
            (
                str(item.get("column", "")),
                float(item["value"]),
                float(error) if is_number(error) else None,
                note,
            )
        )
    metric = metric_name(items[0].get("metric", evaluation.get("metric")))
    method = items[0].get("method", "permutation importance")
    more = f" The {len(items) - 25} columns after these matter less." if len(items) > 25 else ""
    caption = (
        f"{str(method).capitalize()}: how much worse {metric} gets when the column is shuffled; whiskers are "
        f"one standard error. Columns that say the same share their importance.{more}"
    )
    return page.figure(plots.bars_plot(rows, title=f"Importance of columns for {metric}"), caption)


def gate_section(verdict: Mapping[str, Any]) -> str:
    """Return the gate, condition by condition."""
    checks = records(verdict, "checks")
    heads = [("Outcome", "nowrap"), ("Condition", "name"), ("What was found", "sentence")]
    rows = []
    for item in checks:
        where = f' <span class="pill">{escaped(item["slice"])}</span>' if item.get("slice") else ""
        needed = whole(item, "needed")
        more = f" About {needed:,} more rows would decide it." if needed else ""
        rows.append(
            [
                page.pill(item.get("outcome", "")),
                escaped(item.get("name", "")) + where,
                escaped(str(item.get("detail", "")) + more),
            ]
        )
    return page.table(heads, rows) if rows else ""


def _threshold_parts(rows: list[Mapping[str, Any]], chosen: Any) -> list[str]:
    names = ("threshold", "precision", "recall", "flagged")
    rows = [row for row in rows if all(is_number(row.get(name)) for name in names)]
    if len(rows) < 2:
        return []
    drawing = plots.thresholds_plot(rows, float(chosen) if is_number(chosen) else None)
    key = page.legend(
        [("p0", "precision"), ("p2", "recall (dashed)"), ("p1", "share of rows flagged (dotted)")]
    )
    heads = [(words(name), "figure") for name in (*names, "false_positive_rate")]
    lines = [[number(row.get(name), 3) for name in (*names, "false_positive_rate")] for row in rows]
    listed = page.folded("All thresholds as a table", page.table(heads, lines))
    return [
        f"<div>{page.figure(drawing, 'What a stricter or looser decision would cost.')}{key}{listed}</div>"
    ]


def _confusion_parts(confusion: Mapping[str, Any]) -> list[str]:
    labels = [str(label) for label in entries(confusion, "labels")]
    lines = entries(confusion, "counts")
    square = len(lines) == len(labels) and all(
        isinstance(line, list) and len(line) == len(labels) and all(map(is_number, line)) for line in lines
    )
    if labels and square:
        drawing = plots.confusion_plot(labels, lines)
        return [page.figure(drawing, "Shaded by the share of each true class.")]
    mistakes = records(confusion, "most_confused")
    heads = [("True class", "name"), ("Named", "name"), ("Rows", "figure")]
    rows = [
        [breakable(item.get("true", "")), breakable(item.get("named", "")), number(item.get("count"))]
        for item in mistakes[:20]
    ]
    return [f"<div><h3>Most frequent mistakes</h3>{page.table(heads, rows)}</div>"] if rows else []


def _residual_parts(evaluation: Mapping[str, Any], target: str) -> list[str]:
    parts = []
    scatter, residuals = mapping(evaluation, "scatter"), mapping(evaluation, "residuals")
    truth, predicted = floats(scatter, "truth"), floats(scatter, "predicted")
    if truth and len(truth) == len(predicted):
        parts.append(
            page.figure(
                plots.scatter_plot(truth, predicted, target),
                "Each dot is a sealed row; on the dashed line the prediction is exact.",
            )
        )
    histogram = mapping(residuals, "histogram")
    if len(floats(histogram, "edges")) == len(floats(histogram, "counts")) + 1 > 1:
        drawing = plots.histogram_plot(histogram, "Errors", f"predicted minus actual {target}", zero=True)
        parts.append(page.figure(drawing, "Errors, clipped at the outer half per cent on each side."))
    groups = complete(
        records(residuals, "by_decile"),
        "predicted_low",
        "predicted_high",
        "mean_error",
        "mean_absolute_error",
    )
    if groups:
        parts.append(
            page.figure(
                plots.error_deciles_plot(groups), "Bars: mean absolute error. Dots: mean error (bias)."
            )
        )
    return parts


def _calibration_words(calibration: Mapping[str, Any]) -> str:
    perfect = mapping(calibration, "ece_if_perfect")
    if not is_number(perfect.get("highest")):
        return ""
    usual = f"a perfectly calibrated model would show up to {number(perfect['highest'], 3)} on this many rows"
    if calibration.get("miscalibrated"):
        return f"More than chance explains: {usual}."
    return f"No more than chance explains: {usual}."


def _strip(item: Mapping[str, Any], blind: float | None) -> str:
    ends = [item["low"], item["high"], item["value"], *([blind] if blind is not None else [])]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return plots.interval_strip(item["value"], item["low"], item["high"], (low - room, high + room), blind)


def _between(item: Mapping[str, Any]) -> str:
    if is_number(item.get("low")) and is_number(item.get("high")):
        return f"{number(item['value'], 3)} [{number(item['low'], 3)}, {number(item['high'], 3)}]"
    return number(item["value"], 3)


def _outcome(test: Mapping[str, Any]) -> tuple[str, str]:
    if test.get("better"):
        return "better", "passed"
    if test.get("worse"):
        return "worse", "failed"
    return ("not worse", "passed") if test.get("not_worse") else ("no clear difference", "unknown")


def _p_value(value: Any) -> str:
    if not is_number(value):
        return ""
    return "under 0.0001" if value < 1e-4 else number(float(value), 2)


def _level(measure: Mapping[str, Any]) -> str:
    level = measure.get("level")
    return percent(level, 0) if is_number(level) else percent(0.95, 0)
