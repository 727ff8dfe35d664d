"""What the next model costs in a process that is already warm: many tables, one after the other, imports once.

    python -m benchmarks.accuracy.warm [--most-rows 20000] [--folds 0,1,2]

Writes ``results/warm/modelworks.jsonl``: one line per task with its CPU-seconds, in the order they ran.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings

from benchmarks.accuracy.run_one import RESULTS, THREAD_VARIABLES, cpu_seconds, machine


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most-rows", type=int, default=20_000)
    parser.add_argument("--folds", default="0,1,2")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read when numpy is first imported, below
    from pathlib import Path

    from benchmarks.accuracy.measures import load_fold, loss_of
    from benchmarks.accuracy.methods.product import Modelworks, recipe_commit
    from benchmarks.accuracy.suite import LOCK

    tables = [
        name for name, line in json.loads(LOCK.read_text()).items() if line["rows"] <= options.most_rows
    ]
    Modelworks().load_libraries()
    commit, host = recipe_commit(), machine()
    lines = []
    for fold in map(int, options.folds.split(",")):
        for table in tables:
            data = load_fold(table, fold)
            method = Modelworks()
            begin = cpu_seconds()
            method.fit(data, Path())
            spent = cpu_seconds() - begin
            loss = loss_of(data.kind, data.test_target, method.predict(data.test))
            lines.append(
                {"task": len(lines), "table": table, "fold": fold, "fit_cpu_s": round(spent, 3), "loss": loss}
            )
            print(f"{table} {fold} {spent:.2f} CPU-s", flush=True)
    folder = RESULTS / "warm"
    folder.mkdir(exist_ok=True)
    header = {"at": int(time.time()), "commit": commit, "machine": host, "tasks": len(lines)}
    text = "".join(json.dumps(line) + "\n" for line in [header, *lines])
    (folder / "modelworks.jsonl").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
