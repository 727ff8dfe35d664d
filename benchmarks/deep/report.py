"""Turn the rows of the results into the dated report.

python -m benchmarks.deep.report
"""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

from benchmarks.deep.measure import RESULTS
from modelworks.compute.device import this_machine

HEADER = """# Networks of their own against heads on a shared backbone

{day}. {cpu}, {cores} cores shared with other work, {features}; {versions}.
One thread (`OMP_NUM_THREADS=1`); CPU-seconds, not wall time; single-row times are thread CPU time in ONNX Runtime with
resize and normalisation in the graph. Accuracy on the official test part (trashnet_half: every fourth image) with exact
95 % binomial intervals, one seed.

    OMP_NUM_THREADS=1 python -m benchmarks.deep.run SET --budgets A,B
    OMP_NUM_THREADS=1 python -m benchmarks.deep.small SET --teacher T --student S
    OMP_NUM_THREADS=1 python -m benchmarks.deep.processes trashnet_half --epochs 3 --seeds 1

`head`: ridge head on the default backbone of the modality. `network@B`: the deep recipe with a budget of B CPU-seconds.
"""


def main() -> int:
    """Write the report beside the results."""
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    latest = {
        (row["set"], row["model"]): index
        for index, row in enumerate(rows)
        if "budget_s" in row or row["model"] == "head"
    }
    rows = [row for index, row in enumerate(rows) if latest.get((row["set"], row["model"]), index) == index]
    machine = this_machine()
    names = ("torch", "onnxruntime", "onnxscript", "optuna", "numpy")
    text = HEADER.format(
        day=RESULTS.stem, cpu=machine.cpu, cores=machine.cores, features=" ".join(machine.features),
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in names),
    )  # fmt: skip
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        sizes = next(
            (f": {row['train']} training and {row['test']} test samples" for row in own if "train" in row), ""
        )
        text += f"\n## {name}{sizes}\n\n| model | accuracy | interval | log loss | CPU s | MB | one row ms | note |\n"
        text += "|---|---|---|---|---|---|---|---|\n" + "".join(_line(row) for row in own)
    notes = RESULTS.with_name("notes.md")
    text += "\n" + notes.read_text(encoding="utf-8") if notes.exists() else ""
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    return 0


def _line(row: dict[str, Any]) -> str:
    note = str(row.get("how", ""))
    if row.get("speed"):
        speed = row["speed"]
        note = f"kept: {row['kept']}; {note} ({speed['first_ms']:.2f} to {speed['second_ms']:.2f} ms)"
    if "largest_relative_difference" in row:
        apart = row["largest_relative_difference"]
        note = f"largest difference of the curves: train {apart['train_loss']:.1e}, valid {apart['valid_loss']:.1e}"
    if "wall_s" in row:
        note = f"{row['wall_s']} s of wall time with start-up; validation loss {row['valid_loss']}"
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else ""
    cells = [row["model"], _cell(row, "accuracy"), interval]
    cells += [_cell(row, name) for name in ("log_loss", "cpu_s", "size_mb", "p50_ms")] + [note]
    return "| " + " | ".join(cells) + " |\n"


def _cell(row: dict[str, Any], name: str) -> str:
    return str(row.get(name, ""))


if __name__ == "__main__":
    raise SystemExit(main())
