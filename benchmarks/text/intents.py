"""Texts of 77 and 150 classes: what people ask of a bank, and of an assistant, by what they want.

    OMP_NUM_THREADS=1 python -m benchmarks.text.intents FOLDER [--sets banking77,clinc150] [--models produce,minilm]

The sets are not in the data at hand. ``FOLDER`` holds checkouts of two public repositories of GitHub:

    PolyAI-LDN/task-specific-datasets   banking_data/{train,test}.csv   BANKING77, CC BY 4.0 (Casanueva et al. 2020)
    clinc/oos-eval                      data/data_full.json             CLINC150, CC BY 3.0 (Larson et al. 2019)

``--part validation`` (the default) leaves the published test parts alone: of BANKING77 a fifth of the training texts
(seed 1) is held out, of CLINC150 the published validation part. ``--part test`` learns from everything but the
published test part and looks at that. ``clinc150_scope`` has a class more: what no class means (100 texts to learn
from).
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.text.run import measured, produced, record, reference

RESULTS = Path(__file__).parent / "results" / "2026-11-26-intents.jsonl"
OUTSIDE = "oos"
SETS = ("banking77", "clinc150", "clinc150_scope")
FILES = {
    "banking77": ("task-specific-datasets/banking_data/train.csv", "PolyAI-LDN/task-specific-datasets"),
    "clinc150": ("oos-eval/data/data_full.json", "clinc/oos-eval"),
    "clinc150_scope": ("oos-eval/data/data_full.json", "clinc/oos-eval"),
}
Found = tuple[list[str], list[str], np.ndarray]


def load(folder: Path, name: str, part: str) -> Found | None:
    """Return texts, labels and which are asked; ``None``, with a word on where to get it, if the set is not there.

    Args:
        folder: Holds the checkouts.
        name: Of the set.
        part: ``validation`` or ``test``.
    """
    path, repository = FILES[name]
    if not (folder / path).exists():
        print(f"{name} left out: {folder / path} is not there (a checkout of {repository} on GitHub)")
        return None
    if name == "banking77":
        rows = [(*row, False) for row in _banking(folder / path)]
        if part == "test":
            rows += [(*row, True) for row in _banking((folder / path).with_name("test.csv"))]
        texts, labels, asked = (list(column) for column in zip(*rows, strict=True))
        held = np.random.default_rng(1).random(len(texts)) < 0.2
        return texts, labels, np.array(asked) if part == "test" else held
    parts = json.loads((folder / path).read_text(encoding="utf-8"))
    outside = name == "clinc150_scope"
    learnt = ("train",) if part == "validation" else ("train", "val")
    asked_of = "val" if part == "validation" else "test"
    names = [(item, False) for item in learnt] + [(asked_of, True)]
    names += [(f"{OUTSIDE}_{item}", asked) for item, asked in names] if outside else []
    found = [(text, label, asked) for item, asked in names for text, label in parts[item]]
    texts, labels, asked = (list(column) for column in zip(*found, strict=True))
    return texts, labels, np.array(asked)


def _banking(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def judged(said: list[str], truth: list[str]) -> dict[str, Any]:
    """Return accuracy with exact limits and macro F1; where something is outside of all classes, that apart."""
    inside = [label != OUTSIDE for label in truth]
    if all(inside):
        return measured(np.array(said), np.array(truth))
    kept = [(one, other) for one, other, own in zip(said, truth, inside, strict=True) if own]
    found = measured(*(np.array(column) for column in zip(*kept, strict=True)))
    out = [one == OUTSIDE for one, own in zip(said, inside, strict=True) if not own]
    wrong = [one == OUTSIDE for one, _ in kept]
    return {
        **found,
        "outside_recall": round(float(np.mean(out)), 4),
        "inside_lost": round(float(np.mean(wrong)), 4),
    }


def main() -> int:
    """Run the sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--models", default="reference,produce,minilm")
    parser.add_argument("--part", default="validation", choices=("validation", "test"))
    parser.add_argument("--budget", type=float, default=600.0, help="CPU-seconds of a task")
    given = parser.parse_args()
    for name in given.sets.split(","):
        found = load(given.folder, name, given.part)
        if found is None:
            continue
        texts, labels, test = found
        known, asked = np.flatnonzero(~test), np.flatnonzero(test)
        truth = [labels[row] for row in asked]
        facts: dict[str, Any] = {"set": name, "part": given.part, "classes": len(set(labels))}
        facts |= {"train": len(known), "test": len(asked)}
        for model in given.models.split(","):
            if model == "reference":
                codes, classes = np.unique(np.array(labels), return_inverse=True)[::-1]
                wanted = [texts[row] for row in asked]
                answers = reference([texts[row] for row in known], codes[known], wanted, chinese=False)
                record({**facts, "model": model, **judged(list(classes[answers]), truth)}, RESULTS)
                continue
            said, cost = produced(texts, labels, test, asked, given.budget, model)
            record({**facts, "model": model, **(judged(said, truth) if said else {}), **cost}, RESULTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
