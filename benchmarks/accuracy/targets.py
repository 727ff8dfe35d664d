"""The measured values beside the targets of the tabular research note (its section 4), met or not."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable

from benchmarks.accuracy.compare import Comparison, compare
from benchmarks.accuracy.results import RESULTS, Result, Results, load, lock

PRODUCT = "modelworks"
YARDSTICK = "lgbm_es"
WARM = RESULTS / "warm" / "modelworks.jsonl"
Row = tuple[str, str, str, bool | None]


def machine_factor() -> float:
    """Return the CPU-seconds that the machine of the stored peers took for one of the product's machine.

    LightGBM ran on both: geometric mean, over (table, fold), of its oldest line over its newest. 1.0 if both are one.
    """
    oldest, newest = load(YARDSTICK, oldest=True), load(YARDSTICK)
    logs = [
        math.log(oldest[key].line["fit_cpu_s"] / line.line["fit_cpu_s"])
        for key, line in newest.items()
        if not line.failed and not oldest[key].failed
    ]
    return math.exp(statistics.fmean(logs)) if logs else 1.0


def ratio_words(found: Comparison | None, factor: float = 1.0) -> str:
    """Return loss ratio, interval, CPU ratio (``factor`` of the measured one) and number of tables in words."""
    if found is None:
        return "not measured"
    low, high = found.interval
    tables = len(found.ratios)
    scaled = (
        ""
        if factor == 1.0
        else f" (× {factor:.2f} for the slower machine of the peer: {found.cpu * factor:.3f})"
    )
    return f"{found.loss:.3f} ({low:.3f} – {high:.3f}) at {found.cpu:.3f} of the CPU{scaled}, {tables} tables"


def loss_rows(results: dict[str, Results]) -> Iterable[Row]:
    """Yield T1 to T4: loss ratios at a share of the cost."""
    product = results[PRODUCT]
    against = {name: compare(product, lines) for name, lines in results.items() if name != PRODUCT}
    good, best = against.get("ag_good@200"), against.get("ag_best@300")
    medium = against.get("ag_medium@240")
    factor = machine_factor()
    yield (
        "T1 loss against AutoGluon good @200",
        ratio_words(good, factor),
        "≤ 1.00, interval below 1.02, CPU ≤ 0.05, ≥ 15 tables",
        good
        and good.loss <= 1
        and good.interval[1] <= 1.02
        and good.cpu * factor <= 0.05
        and len(good.ratios) >= 15,
    )
    yield (
        "T2 loss against AutoGluon best @300",
        ratio_words(best, factor),
        "≤ 1.01 at ≤ 0.03, on at least 4 tables",
        best and best.loss <= 1.01 and best.cpu * factor <= 0.03 and len(best.ratios) >= 4,
    )
    yield (
        "T3 loss against AutoGluon medium",
        ratio_words(medium, factor)
        + (f", worst {medium.worst.table} {medium.worst.loss:.2f}" if medium else ""),
        "≤ 0.98 at ≤ 0.10, no table above 1.10",
        medium and medium.loss <= 0.98 and medium.cpu * factor <= 0.10 and medium.worst.loss <= 1.10,
    )
    small = [name for name, line in lock().items() if line["rows"] <= 20_000]
    large = [name for name, line in lock().items() if line["rows"] > 20_000]
    for label, tables, loss, cpu in (("≤ 20,000", small, 0.91, 8.0), ("> 20,000", large, 1.0, 2.0)):
        found = compare(product, results["lgbm_es"], tables)
        yield (
            f"T4 loss against LightGBM + early stopping, n {label}",
            ratio_words(found),
            f"≤ {loss:.2f} at ≤ {cpu:g} times the CPU",
            found and found.loss <= loss and found.cpu <= cpu,
        )


def warm_costs(most_rows: int) -> list[float]:
    """Return CPU-seconds of the tasks of the warm batch after its tenth, up to a table size."""
    if not WARM.exists():
        return []
    lines = [json.loads(text) for text in WARM.read_text().splitlines()][1:]
    return [
        line["fit_cpu_s"]
        for line in lines[10:]
        if "fit_cpu_s" in line and lock()[line["table"]]["rows"] <= most_rows
    ]


def warm_commit() -> str:
    """Return the commit whose warm batch is kept."""
    return str(json.loads(WARM.read_text().splitlines()[0])["commit"])


def cost_rows(lines: list[Result]) -> Iterable[Row]:
    """Yield T5, T6, T8 and T9: warm and cold cost, bytes, latency of the graph alone."""
    for rows, target in ((1_000, 1.5), (10_000, 3.0)):
        warm = warm_costs(rows)
        if warm:
            mean = statistics.fmean(warm)
            yield (
                f"T5 CPU-s of the next model in a warm process, n ≤ {rows:,}",
                f"mean {mean:.2f}, median {statistics.median(warm):.2f} ({len(warm)} tasks, commit {warm_commit()})",
                f"mean ≤ {target:g}",
                mean <= target,
            )
    imports = statistics.median(line.line["import_cpu_s"] for line in lines)
    yield "T6 CPU-s of imports in a cold process", f"{imports:.2f}", "≤ 1.2", imports <= 1.2
    sizes = sorted(line.line["bytes"] / 1e6 for line in lines)
    middle = statistics.median(sizes)
    yield (
        "T8 MB of the graph, median / worst",
        f"{middle:.2f} / {sizes[-1]:.1f}",
        "≤ 2 / ≤ 10",
        middle <= 2 and sizes[-1] <= 10,
    )
    times = sorted(line.line["notes"]["graph_ms"]["p50"] for line in lines)
    load_average = statistics.median(line.line["machine"]["load"] for line in lines)
    middle = statistics.median(times)
    yield (
        "T9 ms per row of the graph, median / worst table",
        f"{middle:.3f} / {times[-1]:.2f} (load {load_average:.1f})",
        "≤ 0.15 / ≤ 2",
        middle <= 0.15 and times[-1] <= 2,
    )


def calibration_rows(results: dict[str, Results]) -> Iterable[Row]:
    """Yield T10: mean expected calibration error on shared tables."""
    for name in ("ag_medium@240", "ag_good@200"):
        found = compare(results[PRODUCT], results[name]) if name in results else None
        if found:
            own, other = found.ece
            yield f"T10 mean ECE against {name}", f"{own:.3f} against {other:.3f}", "not worse", own <= other


def rows(results: dict[str, Results]) -> list[list[str]]:
    """Return the table of targets: measure, measured, target, met."""
    every = list(results[PRODUCT].values())
    failures = sum(result.failed for result in every)
    found = [
        *loss_rows(results),
        *cost_rows([result for result in every if not result.failed]),
        *calibration_rows(results),
        ("T11 failures", f"{failures} of {len(every)} runs", "0", failures == 0),
    ]
    words = {True: "yes", False: "no", None: "–"}
    return [[name, measured, target, words[met and bool(met)]] for name, measured, target, met in found]
