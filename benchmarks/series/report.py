"""Turn the rows of the results into the tables of the dated report.

python -m benchmarks.series.report
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.series.results import RESULTS, rows

NOTES = RESULTS.with_name("notes-2026-11-26-b.md")


def _number(value: Any, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _limits(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    low, high = row[f"{name}_95"]
    return f"{row[name]:.3f} ({low:.3f} to {high:.3f})"


def forecasts() -> str:
    """Return the table of forecasts."""
    text = (
        "| set | origins | model | MASE (95 %) | sMAPE | WQL | coverage of 90 % | MAE | MSE | CPU s |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    for row in rows("forecasts"):
        where = f"{row['windows']:,}" + (" of the peers" if row["origins"] == "peers" else "")
        note = f" ({row['note']})" if row.get("note") and row["origins"] == "all" else ""
        cells = [
            row["set"], where, row["model"] + note, _limits(row, "mase"), _number(100 * row["smape"], 2),
            _number(row["wql"], 4), _number(row["interval_coverage"]),
            _number(row["mae"]), _number(row["mse"]), _number(row.get("cpu_s"), 1),
        ]  # fmt: skip
        text += "| " + " | ".join(cells) + " |\n"
    return text


def classes() -> str:
    """Return the table of classes and of remaining life."""
    text = "| set | model | accuracy (95 %) | CPU s | published |\n|---|---|---|---|---|\n"
    lives = ""
    for row in rows("classes"):
        if "rmse" in row:
            lives += (
                f"\n{row['set']}: RMSE {_limits(row, 'rmse')} as the graph answers, {row['rmse_clipped']:.2f} with "
                f"answers cut to 0 to 125; score of PHM 2008 {row['phm_score']:.0f}; {row['cpu_s']:.0f} CPU-seconds. "
                f"{row['reference']}.\n"
            )
            continue
        shown = _limits(row, "accuracy") if "accuracy_95" in row else _number(row.get("accuracy"))
        cells = [row["set"], row["model"], shown, _number(row.get("cpu_s"), 1), row.get("reference", "")]
        text += "| " + " | ".join(cells) + " |\n"
    return text + lives


def alarms() -> str:
    """Return the table of anomalies in streams."""
    heads = (
        "set", "model", "F1 of values", "precision", "share alarmed", "alarms per 1,000 values", "events caught",
        "top in an event", "NAB, own threshold", "NAB, best",
    )  # fmt: skip
    text = "| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|\n"
    for row in rows("alarms"):
        cells = [
            row["set"], row["model"], _number(row["f1"]), _number(row["precision"]), _number(row["alarm_rate"]),
            _number(row["alarms_per_1000"], 2), row["events_caught"], row["top_in_event"], _number(row["nab"], 1),
            _number(row["nab_best_threshold"], 1),
        ]  # fmt: skip
        text += "| " + " | ".join(cells) + " |\n"
    return text


def main() -> int:
    """Write the report beside the results: the notes with the tables in their places."""
    text = NOTES.read_text(encoding="utf-8")
    for name, made in (("forecasts", forecasts), ("classes", classes), ("alarms", alarms)):
        text = text.replace(f"[[{name}]]", made().rstrip())
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
