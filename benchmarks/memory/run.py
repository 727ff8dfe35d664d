"""Cold start against memory on tables that memory has not seen, at equal cost.

    python -m benchmarks.memory.run [--most-rows 20000] [--shares 1,0.5,0.25]

Memory is taught by fitting every design table of the accuracy suite once. Then every held-out table is fitted cold
(the portfolio's own order) and with the members in the order memory advises. The budget of both is the same share of
the CPU-seconds the cold fit takes when nothing limits it. Writes ``results/memory.json``.
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

from benchmarks.accuracy.run_one import THREAD_VARIABLES, machine
from benchmarks.accuracy.suite import HELD_OUT, LOCK

RESULTS = Path(__file__).resolve().parent / "results" / "memory.json"
PLENTY_S = 60.0


def fit(fold: Any, order: tuple[str, ...], budget_s: float) -> dict[str, Any]:
    """Fit once and return test loss, CPU-seconds and the members' diagnostics; a failure is the constant."""
    from benchmarks.accuracy.measures import loss_of
    from benchmarks.accuracy.methods.product import Modelworks
    from modelworks.algorithms import TableRecipe
    from modelworks.core.budget import Budget
    from modelworks.core.errors import ModelworksError

    method = Modelworks()
    method.kind, method.categories = fold.kind, fold.categories
    train = method.training_table_of(fold)
    begin = time.process_time()
    try:
        method.model = TableRecipe(order=order).fit(train, None, Budget(budget_s), 0)
    except ModelworksError as error:
        return {"error": error.code, "cpu_s": time.process_time() - begin}
    spent = time.process_time() - begin
    return {
        "loss": loss_of(fold.kind, fold.test_target, method.predict(fold.test)),
        "cpu_s": round(spent, 3),
        "members": [
            {key: member.get(key) for key in ("name", "oof_loss", "cpu_s", "weight")}
            for member in method.model.diagnostics["members"]
        ],
    }


def facts_of_fold(fold: Any) -> Any:
    """Return what memory knows of a task before anything is fitted."""
    import numpy as np

    from benchmarks.accuracy.methods.product import Modelworks
    from modelworks.production.memory import facts_of

    train = Modelworks().training_table_of(fold)
    counts = () if fold.kind == "regression" else np.bincount(fold.train_target).tolist()
    return facts_of(train.schema, train.schema.names, fold.kind, train.rows, counts)


def teach(tables: list[str]) -> list[Any]:
    """Fit every table once with the portfolio's own order and return the lessons."""
    from benchmarks.accuracy.measures import load_fold
    from modelworks.production.memory import lesson_of

    lessons = []
    for table in tables:
        fold = load_fold(table, 0)
        done = fit(fold, (), PLENTY_S)
        if "loss" in done:
            lessons.append(lesson_of(facts_of_fold(fold), done, done["cpu_s"], table))
        print(f"taught {table} {done['cpu_s']:.2f} CPU-s", flush=True)
    return lessons


def contest(table: str, lessons: list[Any], shares: list[float]) -> list[dict[str, Any]]:
    """Fit one held-out table cold and advised under each share of the unlimited cold cost."""
    from benchmarks.accuracy.measures import load_fold
    from benchmarks.accuracy.results import Result
    from modelworks.production.memory import advise

    fold = load_fold(table, 0)
    advice = advise(facts_of_fold(fold), lessons)
    unlimited = fit(fold, (), PLENTY_S)
    lines = []
    for share in shares:
        budget_s = PLENTY_S if share >= 1 else max(0.05, share * unlimited["cpu_s"])
        cold = unlimited if share >= 1 else fit(fold, (), budget_s)
        advised = fit(fold, advice.order, budget_s) if advice.order else cold
        ratio = Result(table, 0, advised).floored / Result(table, 0, cold).floored
        lines.append(
            {
                "table": table,
                "share": share,
                "advice": advice.to_json(),
                "cold": cold,
                "advised": advised,
                "loss_ratio": ratio,
                "cpu_ratio": advised["cpu_s"] / cold["cpu_s"],
            }
        )
        print(
            f"{table:20} share {share:g}: loss ratio {ratio:.4f}, CPU ratio {lines[-1]['cpu_ratio']:.3f}",
            flush=True,
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most-rows", type=int, default=20_000)
    parser.add_argument("--shares", default="1,0.5,0.25")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read when numpy is first imported, below
    import numpy as np

    from benchmarks.accuracy.compare import bootstrap
    from benchmarks.accuracy.methods.product import Modelworks, recipe_commit

    sizes = {name: line["rows"] for name, line in json.loads(LOCK.read_text()).items()}
    allowed = [name for name, rows in sizes.items() if rows <= options.most_rows]
    Modelworks().load_libraries()
    lessons = teach([name for name in allowed if name not in HELD_OUT])
    shares = [float(share) for share in options.shares.split(",")]
    lines = [line for name in allowed if name in HELD_OUT for line in contest(name, lessons, shares)]
    summary = []
    for share in shares:
        chosen = [line for line in lines if line["share"] == share]
        logs = np.log([line["loss_ratio"] for line in chosen])
        costs = np.log([line["cpu_ratio"] for line in chosen])
        summary.append(
            {
                "share": share,
                "tables": len(chosen),
                "loss_ratio": float(np.exp(logs.mean())),
                "interval": bootstrap(logs),
                "cpu_ratio": float(np.exp(costs.mean())),
            }
        )
        print(json.dumps(summary[-1]))
    RESULTS.parent.mkdir(exist_ok=True)
    record = {"commit": recipe_commit(), "machine": machine(), "summary": summary, "tasks": lines}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
