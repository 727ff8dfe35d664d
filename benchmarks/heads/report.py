"""Turn the rows of the results into the dated report.

python -m benchmarks.heads.report
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

from benchmarks.heads.results import RESULTS, rows
from modelworks.compute.device import this_machine

HEADER = """# One backbone, many heads

{day}. {cpu}, {cores} cores shared with other work (load 4 to 8), {features}; {versions}.
One thread (`OMP_NUM_THREADS=1`); CPU-seconds count, wall time is that of a crowded machine.

    OMP_NUM_THREADS=1 python -m benchmarks.heads.cost [--head ridge] [--missing 0.3] [--no-networks] \\
        [--backbone images.patches]
    OMP_NUM_THREADS=1 python -m benchmarks.heads.order [--tasks 100]
    OMP_NUM_THREADS=1 python -m benchmarks.heads.accuracy [--networks Male,Smiling,Eyeglasses,Bald]
    OMP_NUM_THREADS=1 python -m benchmarks.heads.served
    OMP_NUM_THREADS=1 python -m benchmarks.heads.few [--heads auto,ridge]
    OMP_NUM_THREADS=1 python -m benchmarks.heads.imbalance

Set: celeba40_a, 40 attributes of 4,000 faces at 89x109 pixels; 1 to 3000 train, 3001 to 4000 test (the set names no
persons: one may be in both parts). The tasks beyond 40 are derived: pairs of attributes ("a and b") with at least 30
positive training faces. Backbone: `images.formula` (1,152 numbers a face: a small network trained on pictures of
formulas, beside patches learned from the training faces without labels), where no other is named; few labels and
`order` choose between it and `images.patches` by held-out loss. `recipe` is the version of `samples.heads`: 4 five
families and one standard error, 5 logistic regressions race against ridge and two standard errors, 6 self-training
where labels are few, 7 thresholds by expected metric. Earlier: `2026-11-26.md` (`images.patches`, recipe 4).
"""


def main() -> int:
    """Write the report beside the results."""
    machine, found = this_machine(), rows()
    text = HEADER.format(
        day=RESULTS.stem[:10], cpu=machine.cpu, cores=machine.cores, features=" ".join(machine.features),
        versions=", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "onnxruntime", "scikit-learn")
        ),
    )  # fmt: skip
    text += _table(
        "Cost of the n-th task on cached embeddings",
        (
            "recipe",
            "backbone",
            "head",
            "networks",
            "missing",
            "tasks",
            "cpu_s",
            "times_one",
            "wall_s",
            "before_mb",
            "peak_mb",
            "heads_mb",
            "repeats",
        ),
        [row for row in found if row["part"] == "cost"],
    )
    text += _table(
        "The whole line, from files to packages (`mw.order`): the first task with the embeddings, then the others",
        ("recipe", "tasks", "rows", "cpu_s", "wall_s", "cpu_s_a_task", "steps", "verdicts"),
        [row for row in found if row["part"] == "order"],
    )
    text += _table(
        "Forty heads of one pass, and a probe fitted for every task on its own (mean over tasks, 95 % limits)",
        (
            "recipe",
            "model",
            "accuracy",
            "log_loss",
            "auc",
            "cpu_s",
            "heads_minus_this",
            "log_loss_heads_minus_this",
        ),
        [row for row in found if row["part"] == "accuracy"],
    )
    text += _table(
        "Networks from scratch (`deep.images`) on single tasks",
        ("recipe", "task", "budget_s", "cpu_s", "network", "head", "network_minus_head"),
        [row for row in found if row["part"] == "networks"],
    )
    text += _table(
        "Forty heads in the engine, one new image a request, median milliseconds of wall time",
        ("recipe", "heads", "sessions", "one_ms", "together_ms", "apart_ms", "resident_mb", "packages_mb"),
        [row for row in found if row["part"] == "served"],
    )
    text += _table(
        "Few labels: accuracy on the test part, mean over seeds with 95 % limits of the mean",
        ("recipe", "set", "classes", "shots", "head", "accuracy", "minus_ridge", "taken", "seeds"),
        [row for row in found if row["part"] == "few"],
    )
    text += _table(
        "Rare classes on sealed rows: what the metric of an order changes (mean over tasks, 95 % limits; gains are "
        "paired with the first metric)",
        (
            "recipe", "set", "tasks", "metric", "sealed", "rare", "f1", "f1_gain", "balanced_accuracy",
            "balanced_accuracy_gain", "ap", "macro_f1", "macro_f1_gain", "accuracy",
        ),
        [row for row in found if row["part"] == "imbalance" and "head" not in row],
    )  # fmt: skip
    notes = RESULTS.with_name(f"{RESULTS.stem}-notes.md")
    text += "\n" + notes.read_text(encoding="utf-8") if notes.exists() else ""
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    return 0


def _table(title: str, columns: tuple[str, ...], found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name, "")) for name in columns) + " |" for row in found]
    return f"\n## {title}\n\n" + "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, dict) and "mean" not in value:
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, dict):
        return f"{value['mean']} ({value['low']} to {value['high']})"
    return str(value)


if __name__ == "__main__":
    raise SystemExit(main())
