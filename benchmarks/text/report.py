"""Turn the rows of the results into the dated report.

python -m benchmarks.text.report
"""

from __future__ import annotations

import importlib.metadata
import json

from benchmarks.text.run import RESULTS
from modelworks.compute.device import this_machine

HEADER = """# Texts by the whole line

{day}. {cpu}, {cores} cores shared with other work, {features}; {versions}.
One thread; CPU-seconds of making features and fitting (of `produce`: all steps of the line, from the file to the
package; `wall_s` on a shared machine); `p50_ms` is the thread CPU time of one row in ONNX Runtime. Accuracy with exact
95 % binomial limits. sst2 has its official test part, the other sets a quarter drawn with seed 0. `reference`:
scikit-learn's TF-IDF of words and pairs of words (Chinese: characters) with logistic regression (C = 10), untuned.
`produce`: `mw.produce` of a file, the package's graph on the sealed file.

    OMP_NUM_THREADS=1 python -m benchmarks.text.run SETS [--models reference,produce] [--most ROWS]

| set | model | train | test | accuracy | limits | macro F1 | CPU s | MB | p50 ms | taken |
|---|---|---|---|---|---|---|---|---|---|---|
"""
COLUMNS = ("macro_f1", "cpu_s", "size_mb", "p50_ms")


def main() -> int:
    """Write the report beside the results."""
    machine = this_machine()
    names = ("numpy", "onnxruntime", "scikit-learn")
    text = HEADER.format(
        day=RESULTS.stem,
        cpu=machine.cpu,
        cores=machine.cores,
        features=" ".join(machine.features),
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in names),
    )
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        cells = [row["set"], row["model"], row["train"], row["test"], row.get("accuracy", row.get("verdict"))]
        limits = f"{row['low']} to {row['high']}" if "low" in row else ""
        cells += [limits, *(row.get(name, "") for name in COLUMNS), row.get("how", "").partition(":")[0]]
        text += "| " + " | ".join(str(cell) for cell in cells) + " |\n"
    notes = RESULTS.with_name(f"{RESULTS.stem}-notes.md")
    text += "\n" + notes.read_text(encoding="utf-8") if notes.exists() else ""
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
