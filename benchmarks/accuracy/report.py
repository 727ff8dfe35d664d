"""Turn the result lines into a dated Markdown report, or a short comparison on the screen.

python -m benchmarks.accuracy.report --write benchmarks/accuracy/reports/2026-11-24.md
python -m benchmarks.accuracy.report --quick        # modelworks against every peer, design tables only
"""

from __future__ import annotations

import argparse
import collections
import datetime
import statistics
import sys
from pathlib import Path

from benchmarks.accuracy import targets
from benchmarks.accuracy.compare import TIE, Comparison, compare, regret
from benchmarks.accuracy.paired import interval
from benchmarks.accuracy.results import Results, load, lock, methods, ordered
from benchmarks.accuracy.suite import HELD_OUT

PRODUCT = "modelworks"
ORDER = ("linear", "hgb", "lgbm_es", "catboost", "flaml@60", "ag_medium@240", "ag_good@200", "ag_best@300")
PAIRS = (
    (PRODUCT, None),
    ("lgbm_es", "ag_medium@240"),
    ("lgbm_es", "ag_good@200"),
    ("catboost", "ag_medium@240"),
    ("flaml@60", "ag_medium@240"),
    ("ag_medium@240", "ag_good@200"),
)
SPANS = (("n ≤ 1,000", 0, 1_000), ("1,000 < n ≤ 20,000", 1_000, 20_000), ("n > 20,000", 20_000, 10**9))


def ranked(names: list[str]) -> list[str]:
    """Return method names with the product first and the peers from cheap to dear."""
    known = [PRODUCT, *ORDER]
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def row_of_table(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, first column left, others right."""
    rule = "|---|" + "--:|" * (len(header) - 1)
    return "\n".join([row_of_table(header), rule, *map(row_of_table, rows)]) + "\n"


def number(value: float | None, digits: int = 3) -> str:
    """Return a short number; a dash where there is none."""
    if value is None or value != value:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


PAIR_HEADER = [
    "a vs b",
    "tables (folds)",
    "win/tie/loss of a",
    "loss ratio a/b",
    "95 % interval",
    "worst table",
    "CPU ratio",
    "total CPU ratio",
    "size ratio",
    "row latency ratio",
    "ECE a / b",
]


def pair_row(label: str, found: Comparison) -> list[str]:
    tables = len(found.ratios)
    worst = found.worst
    return [
        label,
        f"{tables} ({found.folds})",
        f"{found.wins}/{tables - found.wins - found.losses}/{found.losses}",
        f"{found.loss:.3f}",
        f"{found.interval[0]:.3f} – {found.interval[1]:.3f}",
        f"{worst.table} {worst.loss:.3f}",
        f"{found.cpu:.3f}",
        f"{found.cpu_total:.3f}",
        f"{found.bytes:.2f}",
        f"{found.row_ms:.3f}",
        f"{number(found.ece[0], 2)} / {number(found.ece[1], 2)}",
    ]


def pairwise(results: dict[str, Results], tables: list[str]) -> str:
    """Return the table of pairs over ``tables``."""
    rows = []
    for a, b in PAIRS:
        for other in [b] if b else [name for name in ranked(list(results)) if name != a]:
            found = compare(results[a], results[other], tables) if {a, other} <= set(results) else None
            if found:
                rows.append(pair_row(f"{a} vs {other}", found))
    return markdown(PAIR_HEADER, rows)


def losing_tables(results: dict[str, Results], against: str) -> str:
    """Return every table the product loses against one peer, worst first."""
    found = compare(results[PRODUCT], results[against])
    if found is None:
        return ""
    lost = sorted((r for r in found.ratios if r.loss > 1 + TIE), key=lambda r: -r.loss)
    rows = []
    for ratio in lost:
        both = set(results[PRODUCT]) & set(results[against])
        rows_of_test = interval(
            PRODUCT, against, ratio.table, [f for t, f in sorted(both) if t == ratio.table]
        )
        rows.append(
            [
                ratio.table + (" (held out)" if ratio.table in HELD_OUT else ""),
                f"{lock()[ratio.table]['rows']:,}",
                str(ratio.folds),
                f"{ratio.loss:.3f}",
                "–" if rows_of_test is None else f"{rows_of_test[0]:.3f} – {rows_of_test[1]:.3f}",
                number(ratio.cpu),
            ]
        )
    title = f"**{PRODUCT} loses to {against} on {len(lost)} of {len(found.ratios)} tables**\n\n"
    header = ["table", "rows", "folds", "loss ratio", "95 % over test rows", "CPU ratio"]
    return title + (markdown(header, rows) if rows else "")


def mean_over_folds(results: Results, table: str, key: str) -> float | None:
    values = [
        result.loss if key == "loss" else result.value(key)
        for (name, _), result in results.items()
        if name == table
    ]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def per_table(results: dict[str, Results], key: str, scale: float = 1.0, fold: int | None = 0) -> str:
    """Return one line per table and one column per method; ``fold`` None = mean of the folds that ran."""
    names = ranked(list(results))
    rows = []
    for table in ordered(set(lock())):
        cells = []
        for name in names:
            kept = {k: v for k, v in results[name].items() if fold is None or k[1] == fold}
            value = mean_over_folds(kept, table, key)
            failed = any(v.failed for k, v in kept.items() if k[0] == table)
            cells.append("failed" if failed else number(None if value is None else value * scale, 4))
        if any(cell != "–" for cell in cells):
            rows.append([table + (" *" if table in HELD_OUT else ""), f"{lock()[table]['rows']:,}", *cells])
    return markdown(["table", "rows", *names], rows)


def coverage(results: dict[str, Results]) -> str:
    """Return which folds of how many tables each method ran, its failures and its total cost."""
    rows = []
    for name in ranked(list(results)):
        lines = results[name].values()
        folds = collections.Counter(result.fold for result in lines)
        regrets = regret(results, name)
        imports = [v for v in (r.value("import_cpu_s") for r in lines) if v is not None]
        rows.append(
            [
                name,
                " ".join(f"f{fold}:{count}" for fold, count in sorted(folds.items())),
                str(sum(result.failed for result in lines)),
                number(sum(result.value("fit_cpu_s") or 0.0 for result in lines), 4),
                number(statistics.median(imports) if imports else None),
                f"{statistics.fmean(regrets.values()):.4f}",
            ]
        )
    return markdown(
        [
            "method",
            "tables per fold",
            "failures",
            "fit CPU-s in all",
            "import CPU-s (median)",
            "mean regret (own tables)",
        ],
        rows,
    )


def common_regret(results: dict[str, Results], names: list[str]) -> str:
    """Return mean regret and cost on the tables that every method in ``names`` ran on fold 0."""
    first = {name: {k: v for k, v in results[name].items() if k[1] == 0} for name in names}
    tables = set.intersection(*({key[0] for key in lines} for lines in first.values()))
    rows = []
    for name in names:
        regrets = regret(first, name)
        lines = [line for key, line in first[name].items() if key[0] in tables]
        rows.append(
            [
                name,
                f"{statistics.fmean(regrets[table] for table in tables):.4f}",
                number(sum(line.value("fit_cpu_s") or 0.0 for line in lines), 4),
            ]
        )
    return f"{len(tables)} tables, fold 0.\n\n" + markdown(
        ["method", "mean regret", "fit CPU-s in all"], rows
    )


def environment(results: dict[str, Results]) -> str:
    """Return hardware and library versions as the result lines recorded them."""
    processors: collections.Counter[str] = collections.Counter()
    who: dict[str, set[str]] = collections.defaultdict(set)
    loads, versions = [], {}
    for name, lines in results.items():
        for result in lines.values():
            if not result.failed:
                host = result.line["machine"]
                processor = f"{host['cpu']}, {host['cores']} cores"
                processors[processor] += 1
                who[processor].add(name)
                loads.append(host["load"])
                versions[name] = result.line["versions"]
    rows = [
        [name, ", ".join(f"{k} {v}" for k, v in versions[name].items())] for name in ranked(list(versions))
    ]
    hardware = "; ".join(
        f"{name} ({count} runs: {', '.join(ranked(list(who[name])))})"
        for name, count in processors.most_common()
    )
    factor = targets.machine_factor()
    if factor != 1.0:
        hardware += (
            f". LightGBM took {factor:.2f} times as many CPU-seconds when the stored peers ran as in this session "
            "(geometric mean of the same fits); CPU ratios of the pairwise tables are raw, those of T1 to T3 are also "
            "given multiplied by it"
        )
    busy = f"Load average when a run began: median {statistics.median(loads):.2f}, highest {max(loads):.2f}."
    return f"Hardware: {hardware}. One thread per run. {busy}\n\n" + markdown(["method", "versions"], rows)


def full_report(results: dict[str, Results], command: str) -> str:
    """Return the whole Markdown report."""
    tables = ordered(set(lock()))
    parts = [
        f"# Accuracy per CPU-second, {datetime.datetime.now(datetime.UTC).date()}\n",
        f"Command: `{command}`. Protocol and methods: `../README.md`. Ratios are a / b, below 1 = a is better "
        f"or cheaper; a tie is within ±{TIE:.1%}; intervals are bootstraps over tables.\n",
        "## Environment\n",
        environment(results),
        "## Targets\n",
        markdown(["measure", "measured", "target", "met"], targets.rows(results))
        if PRODUCT in results
        else "",
        "## Coverage\n",
        coverage(results),
        "## Pairwise, all tables\n",
        pairwise(results, tables),
        "## Pairwise, held-out tables only\n",
        pairwise(results, list(HELD_OUT)),
    ]
    for title, low, high in SPANS:
        inside = [name for name in tables if low < lock()[name]["rows"] <= high]
        parts += [f"## Pairwise, {title}\n", pairwise(results, inside)]
    peers = [name for name in ranked(list(results)) if name != PRODUCT]
    wide = [name for name in ranked(list(results)) if sum(k[1] == 0 for k in results[name]) >= 15]
    parts += ["## Regret on common tables\n", common_regret(results, wide)]
    if PRODUCT in results:
        parts += ["## Losing tables\n", *(losing_tables(results, peer) + "\n" for peer in peers)]
    for title, key, scale in (
        ("Test log loss / RMSE", "loss", 1.0),
        ("ROC AUC", "auc", 1.0),
        ("R²", "r2", 1.0),
        ("Accuracy", "accuracy", 1.0),
        ("ECE (15 bins)", "ece", 1.0),
        ("Fit CPU-seconds", "fit_cpu_s", 1.0),
        ("Size to deploy, kB", "bytes", 1e-3),
        ("One row, ms (median of 40)", "row_ms", 1.0),
        ("Peak memory, MiB", "peak_mib", 1.0),
    ):
        parts += [f"## {title}, fold 0 (* = held out)\n", per_table(results, key, scale)]
    parts += ["## Test log loss / RMSE, mean of the folds that ran\n", per_table(results, "loss", fold=None)]
    return "\n".join(parts)


def quick(results: dict[str, Results]) -> str:
    """Return the product against every peer in short: design tables in full, held-out ones as one line."""
    design = [name for name in ordered(set(lock())) if name not in HELD_OUT]
    parts = [
        "design tables",
        pairwise(results, design),
        "held-out tables (summary only)",
        pairwise(results, list(HELD_OUT)),
    ]
    for peer in ("lgbm_es", "ag_medium@240", "ag_good@200"):
        if peer in results and (found := compare(results[PRODUCT], results[peer], design)):
            rows = [
                [
                    r.table,
                    number(mean_over_folds(results[PRODUCT], r.table, "loss"), 5),
                    f"{r.loss:.4f}",
                    number(mean_over_folds(results[PRODUCT], r.table, "fit_cpu_s")),
                    number(r.cpu),
                ]
                for r in found.ratios
            ]
            parts.append(markdown([f"vs {peer}", "loss", "loss ratio", "fit CPU-s", "CPU ratio"], rows))
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, help="file of the full report; default: the screen")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    results = {name: load(name) for name in methods()}
    if options.quick:
        sys.stdout.write(quick(results))
        return 0
    text = full_report(results, "python -m benchmarks.accuracy.report --write " + str(options.write))
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
