"""The product over many tables in one warm process: what the next model costs, and quick feedback on quality.

    python -m benchmarks.accuracy.warm                               # design tables, fold 0, beside the peers
    python -m benchmarks.accuracy.warm --folds 0,1,2 --all --write   # every table, kept in results/warm

Imports are paid once, before the first task. The kept file holds one line per task in the order they ran.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.accuracy.run_one import RESULTS, THREAD_VARIABLES, cpu_seconds, machine
from benchmarks.accuracy.suite import LOCK

PEERS = ("lgbm_es", "ag_medium@240", "ag_good@200")
KEPT = RESULTS / "warm" / "modelworks.jsonl"


def run_tasks(tasks: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """Fit and score every task in this process; print each beside the peers' results on the same fold."""
    import numpy as np

    from benchmarks.accuracy.measures import load_fold, loss_of
    from benchmarks.accuracy.methods.product import Modelworks
    from benchmarks.accuracy.results import Result, load, methods
    from modelworks.core.errors import ModelworksError

    peers = {name: load(name) for name in PEERS if name in methods()}
    ratios: dict[str, list[float]] = {name: [] for name in PEERS}
    Modelworks().load_libraries()
    lines = []
    for table, fold in tasks:
        data = load_fold(table, fold)
        method = Modelworks()
        begin = cpu_seconds()
        try:
            method.fit(data, Path())
        except ModelworksError as error:
            print(f"{table:20} {fold}  failed: {error}", flush=True)
            lines.append({"table": table, "fold": fold, "error": error.code})
            continue
        spent = cpu_seconds() - begin
        loss = loss_of(data.kind, data.test_target, method.predict(data.test))
        lines.append(
            {
                "table": table,
                "fold": fold,
                "fit_cpu_s": round(spent, 3),
                "bytes": len(method.model.onnx),
                "loss": loss,
            }
        )
        own = Result(table, fold, {"loss": loss})
        cells = []
        for name in PEERS:
            peer = peers.get(name, {}).get((table, fold))
            if peer:
                ratios[name].append(own.floored / peer.floored)
            cells.append(f"{name} {ratios[name][-1]:6.3f}" if peer else f"{name}      –")
        size = len(method.model.onnx) / 1e6
        print(
            f"{table:20} {fold}  {loss:11.5g}  {spent:6.2f} CPU-s {size:6.2f} MB  {'  '.join(cells)}",
            flush=True,
        )
    for name, values in ratios.items():
        if values:
            print(f"loss ratio to {name}: {np.exp(np.mean(np.log(values))):.4f} over {len(values)} tasks")
    print(f"fit CPU-seconds: {sum(line.get('fit_cpu_s', 0.0) for line in lines):.1f} in all")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most-rows", type=int, default=20_000)
    parser.add_argument("--folds", default="0")
    parser.add_argument("--tables", default="", help="comma separated names; default: all that are allowed")
    parser.add_argument("--all", action="store_true", help="also the held-out tables (never while designing)")
    parser.add_argument("--write", action="store_true", help=f"keep the lines in {KEPT.name}")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read when numpy is first imported, in run_tasks
    named = set(filter(None, options.tables.split(",")))
    tables = [
        name
        for name, line in json.loads(LOCK.read_text()).items()
        if line["rows"] <= options.most_rows
        and (options.all or not line["held_out"])
        and (not named or name in named)
    ]
    lines = run_tasks([(table, fold) for fold in map(int, options.folds.split(",")) for table in tables])
    if options.write:
        from benchmarks.accuracy.methods.product import recipe_commit

        KEPT.parent.mkdir(exist_ok=True)
        header = {
            "at": int(time.time()),
            "commit": recipe_commit(),
            "machine": machine(),
            "tasks": len(lines),
        }
        KEPT.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
