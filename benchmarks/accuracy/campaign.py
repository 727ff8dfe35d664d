"""Run a queue of (method, table, fold) jobs one after the other, skipping what the results already hold.

    python -m benchmarks.accuracy.campaign --python PYTHON --methods linear,lgbm_es --folds 0 \
        [--tables titanic,adult] [--most-rows 20000] [--wall 1800]

A job that outlives ``--wall`` seconds is ended with its children and written down as a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time

from benchmarks.accuracy.run_one import RESULTS, append
from benchmarks.accuracy.suite import LOCK, REPOSITORY


def done(method: str) -> set[tuple[str, int]]:
    """Return the (table, fold) pairs already in the method's results file."""
    path = RESULTS / f"{method}.jsonl"
    if not path.exists():
        return set()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(line["table"], line["fold"]) for line in lines}


def run_job(python: str, method: str, table: str, fold: int, wall: float) -> str:
    """Run one job in its own process group and return ``ok``, ``failed`` or ``timeout``."""
    process = subprocess.Popen(
        [python, "-m", "benchmarks.accuracy.run_one", method, table, str(fold)],
        cwd=REPOSITORY,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        return "ok" if process.wait(timeout=wall) == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        append(
            method,
            {
                "method": method,
                "table": table,
                "fold": fold,
                "at": int(time.time()),
                "error": f"over {wall:.0f} s of wall time",
            },
        )
        return "timeout"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that has the methods' libraries"
    )
    parser.add_argument("--methods", required=True)
    parser.add_argument("--folds", default="0")
    parser.add_argument("--tables", default="", help="comma separated; default all, smallest first")
    parser.add_argument("--again", action="store_true", help="run also what the results already hold")
    parser.add_argument("--most-rows", type=int, default=10**9)
    parser.add_argument("--least-rows", type=int, default=0)
    parser.add_argument("--wall", type=float, default=1800.0, help="seconds of wall time one job may take")
    parser.add_argument(
        "--stop-at", type=float, default=float("inf"), help="epoch second after which nothing starts"
    )
    options = parser.parse_args()
    sizes = {name: line["rows"] for name, line in json.loads(LOCK.read_text()).items()}
    tables = options.tables.split(",") if options.tables else sorted(sizes, key=lambda name: sizes[name])
    tables = [name for name in tables if options.least_rows <= sizes[name] <= options.most_rows]
    for method in options.methods.split(","):
        for fold in map(int, options.folds.split(",")):
            for table in tables:
                if not options.again and (table, fold) in done(method):
                    continue
                if time.time() > options.stop_at:
                    return 0
                begin = time.time()
                state = run_job(options.python, method, table, fold, options.wall)
                print(f"{method} {table} {fold} {state} {time.time() - begin:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
