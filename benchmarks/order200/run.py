"""Make an order of at least 200 tasks, unattended, and write a dated report.

    python -m benchmarks.order200.run --out benchmarks/order200/results [--alone 30] [--no-memory] [--work FOLDER]

Three questions: how many lines end with a verdict that needs nobody; what task n costs with shared work against tasks
made alone; and how much of the bill is neither fitting nor scoring.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.order200.tables import order_document
from modelworks.production.forecast import first_guess
from modelworks.production.memory import Lesson
from modelworks.storage.catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_SHARED", ROOT.parent / "shared")) / "data"
MODEL_WORK = {
    "fit": ("fit", "baselines"),
    "judge": ("score", "importance", "latency"),
}
"""Parts of the steps that fit and score; everything else on the bill is overhead."""


def produce(arguments: list[str], home: Path) -> tuple[dict[str, Any], float]:
    """Run ``mw produce`` to its end; returns its JSON result and the elapsed seconds."""
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "modelworks", "produce", *arguments, "--json"],
        env={**os.environ, "MODELWORKS_HOME": str(home), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return json.loads(ended.stdout), time.monotonic() - start


def overhead(home: Path, result: dict[str, Any]) -> dict[str, float]:
    """Return the CPU-seconds of the bill by what they were for."""
    with Catalog(home / "modelworks.db") as catalog:
        made = catalog.ledger.all_results()
        parts: Counter[str] = Counter()
        for item in made:
            for name, seconds in (item.value or {}).get("parts", {}).items():
                parts[f"{item.step}: {name}"] += seconds
    whole = result["cost"]["whole"]["cpu_s"]
    work = sum(parts[f"{step}: {name}"] for step, names in MODEL_WORK.items() for name in names)
    steps = {f"step {name}": bill["cpu_s"] for name, bill in result["cost"]["steps"].items()}
    return {"whole": whole, "fitting and scoring": work, "overhead": whole - work, **steps, **parts}


def curve(result: dict[str, Any], guesses: dict[str, float]) -> list[tuple[str, float, float]]:
    """Return mean cost and cost over the first guess by size, of tasks in the order they ended, in five groups."""
    named = [(line["task"], line["cost"]["cpu_s"]) for line in result["lines"] if line["cost"]]
    size = max(1, -(-len(named) // 5))
    rows = []
    for index in range(0, len(named), size):
        group = named[index : index + size]
        cost = sum(seconds for _, seconds in group)
        guess = sum(guesses[name] for name, _ in group if name in guesses)
        rows.append(
            (f"{index + 1} to {index + len(group)}", cost / len(group), cost / guess if guess else 0.0)
        )
    return rows


def by_rank(home: Path, result: dict[str, Any]) -> list[tuple[str, int, float]]:
    """Return what a task cost beside fitting and scoring, by its place among the tasks of its table.

    Work is charged to the task that caused it, not divided: the first task of a table pays for reading it.
    """
    with Catalog(home / "modelworks.db") as catalog:
        attempts = catalog.ledger.attempts(run=result["run"])
        values = {item.attempt: item.value or {} for item in catalog.ledger.all_results()}
    tables: Counter[str] = Counter()
    rank = {}
    for line in result["lines"]:
        tables[line["data"]] += 1
        rank[line["task"]] = tables[line["data"]]
    stems = {Path(line["data"]).name.split(".")[0]: line["task"] for line in reversed(result["lines"])}
    beside: Counter[str] = Counter()
    for attempt in attempts:
        name = attempt.label if attempt.label in rank else stems.get(attempt.label, "")
        parts = values.get(attempt.id, {}).get("parts", {})
        work = sum(parts.get(part, 0.0) for part in MODEL_WORK.get(attempt.step, ()))
        if name:
            beside[name] += attempt.usage.cpu_s - work
    groups = (
        ("first of its table", range(1, 2)),
        ("2nd to 5th", range(2, 6)),
        ("6th and later", range(6, 1000)),
    )
    rows = []
    for title, places in groups:
        chosen = [beside[name] for name, place in rank.items() if place in places]
        if chosen:
            rows.append((title, len(chosen), statistics.mean(chosen)))
    return rows


def lessons_of(home: Path) -> list[Lesson]:
    """Return what the run taught: facts of each task and what its fit took."""
    with Catalog(home / "modelworks.db") as catalog:
        return [Lesson.from_json(value) for value in catalog.memory.recall("lessons").values()]


def made_alone(result: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Make some of the tasks again, each alone in an installation of its own; returns both costs."""
    chosen = random.Random(0).sample(result["lines"], min(count, len(result["lines"])))
    rows = []
    for line in chosen:
        with tempfile.TemporaryDirectory(prefix="alone-") as home:
            alone, _ = produce([line["data"], "--target", line["target"][0], "--budget", "60s"], Path(home))
        if "cost" in alone:
            rows.append(
                {
                    "task": line["task"],
                    "shared": line["cost"]["cpu_s"],
                    "alone": alone["cost"]["whole"]["cpu_s"],
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def report(
    result: dict[str, Any],
    wall_s: float,
    bill: dict[str, float],
    alone: list[dict[str, Any]],
    groups: list[tuple[str, float, float]],
    ranks: list[tuple[str, int, float]],
) -> str:
    """Return the report as Markdown."""
    lines = result["lines"]
    verdicts = Counter(line["verdict"]["kind"] for line in lines)
    decided = verdicts["released"] + verdicts["refused"]
    unshared = result["cost"]["unshared"]["cpu_s"]
    forecast = result["forecast"]
    day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = [
        f"# An order of {len(lines)} tasks, unattended ({day})",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores shared with other work, Python {platform.python_version()}; "
        "`python -m benchmarks.order200.run`.",
        "",
        f"- verdicts: {', '.join(f'{count} {kind}' for kind, count in verdicts.most_common())}",
        f"- released or refused with a cause: {decided} of {len(lines)} ({decided / len(lines):.1%})",
        f"- {wall_s:.0f} s elapsed, {bill['whole']:.0f} CPU-seconds, {bill['whole'] / len(lines):.2f} a task",
        f"- forecast {forecast['cpu_s']:.0f} CPU-seconds ({forecast['low']:.0f} to {forecast['high']:.0f}), "
        f"off by {forecast['error']:+.0%}",
        f"- neither fitting nor scoring: {bill['overhead']:.1f} CPU-s, "
        f"{bill['overhead'] / bill['whole']:.1%} of the bill "
        f"(of it the scheduler and the start of workers: {bill.get('step engine', 0.0):.1f})",
        f"- the same steps without sharing between tasks: {unshared:.0f} CPU-seconds by the ledger "
        f"({unshared / bill['whole'] - 1:+.0%})",
    ]
    if alone:
        ratio = sum(row["alone"] for row in alone) / sum(row["shared"] for row in alone)
        text.append(
            f"- {len(alone)} random tasks made again, each alone in a fresh installation: {ratio:.2f} times the CPU "
            f"({sum(row['alone'] for row in alone) / len(alone):.2f} against "
            f"{sum(row['shared'] for row in alone) / len(alone):.2f} CPU-seconds a task)"
        )
    text += ["", "## Cost of task n, in the order they ended (small tables first)", ""]
    text += ["| tasks | mean CPU-s | CPU-s over the first guess by size |", "|---|---|---|"]
    text += [f"| {name} | {mean:.2f} | {ratio:.2f} |" for name, mean, ratio in groups]
    text += ["", "## What a task costs beside fitting and scoring", ""]
    text += ["| task | tasks | mean CPU-s |", "|---|---|---|"]
    text += [f"| {title} | {count} | {mean:.3f} |" for title, count, mean in ranks]
    text += ["", "## Where the CPU went", "", "| what | CPU-s | share |", "|---|---|---|"]
    text += [f"| {name} | {value:.1f} | {value / bill['whole']:.1%} |" for name, value in bill.items()]
    text += ["", "## Lines that were not released", "", "| task | verdict | cause |", "|---|---|---|"]
    for line in lines:
        if line["verdict"]["kind"] != "released":
            cause = line["verdict"]["cause"].replace("\n", " ").replace("|", "/")[:240]
            text.append(f"| {line['task']} | {line['verdict']['kind']} | {cause} |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--alone", type=int, default=20)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--work", type=Path, help="a folder to keep; the same folder resumes a cut run")
    options = parser.parse_args()
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    kept_folder = nullcontext(str(options.work)) if options.work else None
    with kept_folder or tempfile.TemporaryDirectory(prefix="order200-") as folder:
        path = Path(folder) / "order200.yaml"
        path.write_text(yaml.safe_dump(order_document(str(DATA), "60s")), encoding="utf-8")
        home = Path(folder) / "home"
        result, wall_s = produce([str(path), *(["--no-memory"] if options.no_memory else [])], home)
        bill = overhead(home, result)
        lessons = lessons_of(home)
        groups = curve(result, {lesson.task: first_guess(lesson.facts) for lesson in lessons})
        ranks = by_rank(home, result)
        alone = made_alone(result, options.alone)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.now(UTC):%Y-%m-%d}" + ("-no-memory" if options.no_memory else "")
    (options.out / f"{stem}.md").write_text(
        report(result, wall_s, bill, alone, groups, ranks), encoding="utf-8"
    )
    lines = {
        line["task"]: {"verdict": line["verdict"]["kind"], "cpu_s": line["cost"].get("cpu_s")}
        for line in result["lines"]
    }
    kept = {"bill": bill, "alone": alone, "lines": lines, "forecast": result["forecast"]}
    kept["fits"] = [[*astuple(lesson.facts), lesson.cpu_s] for lesson in lessons]
    (options.out / f"{stem}.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
