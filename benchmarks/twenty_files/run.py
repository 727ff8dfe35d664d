"""Run every file through the command line as a stranger would, and write a dated report.

    python -m benchmarks.twenty_files.run --out benchmarks/twenty_files/results [--only penguins,adult]

A file is accepted when its value on the sealed rows lies between the floor and the ceiling of ``files.py`` and it was
released, or was held back with a cause. A trace is never accepted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.twenty_files.files import CASES, Case

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_SHARED", ROOT.parent / "shared")) / "data"


def run_case(case: Case, home: Path) -> dict[str, Any]:
    """Return how one file ended."""
    command = [
        sys.executable,
        "-m",
        "modelworks",
        "produce",
        str(DATA / case.path),
        "--target",
        case.target,
        "--json",
    ]
    start = time.monotonic()
    ended = subprocess.run(
        command,
        env={**os.environ, "MODELWORKS_HOME": str(home), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    row: dict[str, Any] = {**asdict(case), "code": ended.returncode, "wall_s": time.monotonic() - start}
    row["trace"] = "Traceback" in ended.stderr or "MW0001" in ended.stderr
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        return {**row, "verdict": "no answer", "cause": ended.stderr[-300:], "value": None, "cpu_s": None}
    if "error" in answer:
        return {**row, "verdict": "error", "cause": answer["error"]["message"], "value": None, "cpu_s": None}
    line = answer["lines"][0]
    value = next((item["value"] for item in line["measures"] if item["name"] == case.metric), None)
    return {
        **row,
        "verdict": line["verdict"]["kind"],
        "cause": line["verdict"]["cause"],
        "kind": line["kind"],
        "value": value,
        "cpu_s": answer["cost"]["whole"]["cpu_s"],
        "size_kb": line["size_mb"] * 1000 if line["size_mb"] else None,
        "latency_ms": line["latency_ms"],
    }


def accepted(row: dict[str, Any]) -> bool:
    """Say whether a practitioner would accept how the file ended."""
    good = row["value"] is not None and row["floor"] <= row["value"] <= row["ceiling"]
    return not row["trace"] and good and row["verdict"] in ("released", "needs_evidence", "refused")


def report(rows: list[dict[str, Any]], wall_s: float) -> str:
    """Return the report as Markdown."""
    day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    released = sum(row["verdict"] == "released" for row in rows)
    lines = [
        f"# Twenty files, no flags ({day})",
        "",
        f"`mw produce FILE --target COLUMN` on {len(rows)} public files, each by a process of its own.",
        f"{platform.machine()}, {os.cpu_count()} cores shared with other work, Python {platform.python_version()}; "
        f"{wall_s:.0f} s in all.",
        "",
        f"- accepted: {sum(map(accepted, rows))} of {len(rows)}",
        f"- released: {released}; traces: {sum(row['trace'] for row in rows)}",
        "",
        "| file | target | verdict | value | floor | kind | CPU-s | wall s | kB | ms | cause unless released |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value = f"{row['metric']} {row['value']:.4f}" if row["value"] is not None else "-"
        cause = (
            "" if row["verdict"] == "released" else row["cause"].replace("\n", " ").replace("|", "/")[:220]
        )
        mark = "" if accepted(row) else " **not accepted**"
        lines.append(
            f"| {Path(row['path']).name} | {row['target']} | {row['verdict']}{mark} | {value} | {row['floor']} | "
            f"{row.get('kind', '-')} | {row['cpu_s'] or 0:.1f} | {row['wall_s']:.1f} | {row.get('size_kb') or 0:.0f} | "
            f"{row.get('latency_ms') or 0:.2f} | {cause} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chosen = [
        case
        for case in CASES
        if not options.only or any(part in case.path for part in options.only.split(","))
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory(prefix="twenty-files-") as home:
        for case in chosen:
            row = run_case(case, Path(home))
            rows.append(row)
            value = f"{row['value']:.4f}" if row["value"] is not None else "-"
            print(
                f"{case.path} {row['verdict']} {value} {row['wall_s']:.1f}s {row['cause'][:150]}", flush=True
            )
    if not options.only:
        text = report(rows, time.monotonic() - start)
        (options.out / f"{datetime.now(UTC):%Y-%m-%d}.md").write_text(text, encoding="utf-8")
        (options.out / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
