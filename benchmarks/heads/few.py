"""The few-shot curve: 5, 10, 20 and 50 labels per class, over seeds, on two image sets and one text set.

    OMP_NUM_THREADS=1 python -m benchmarks.heads.few [--sets NAMES] [--heads auto,ridge]

The backbone has seen every training sample without its label; a seed draws the labelled ones, and heads may ask
``SPARE`` of the others, without their labels, as an order's heads may. Each seed draws for all counts, and the heads of
all seeds and counts are judged on the same test samples.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from benchmarks.deep.sets import load
from benchmarks.heads.results import record
from benchmarks.heads.samples import embedded
from modelworks.algorithms.plugins import backbone_choices, estimator
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget

SETS = ("cifar10_6k", "trashnet_half", "sst2")
SHOTS = (5, 10, 20, 50)
HEADS = ("auto", "ridge")
SPARE = 1200


def main() -> int:
    """Run the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--heads", default=",".join(HEADS))
    arguments = parser.parse_args()
    heads = arguments.heads.split(",")
    for name in arguments.sets.split(","):
        train, test = load(name)
        modality = train.modality
        names = list(backbone_choices(modality))
        backbones, found = embedded([*train.payload, *test.payload], train.rows, modality, names)
        rows: dict[tuple[int, str], list[float]] = {}
        families: dict[int, Counter[str]] = {shots: Counter() for shots in SHOTS}
        for seed in range(arguments.seeds):
            order = np.random.default_rng(seed).permutation(train.rows)
            for shots in SHOTS:
                chosen = np.concatenate(
                    [order[train.target[order] == code][:shots] for code in range(len(train.classes))]
                )
                others = np.setdiff1d(order, chosen, assume_unique=True)[:SPARE]
                rows_of = np.concatenate([chosen, others])
                few = train.take(rows_of)
                few.target[len(chosen) :] = -1
                few.embeddings.update({key: value[rows_of] for key, value in found.items()})
                few.backbones.update(backbones)
                for family in heads:
                    (head,) = estimator("samples.heads")(head=family).fit_all([few], Budget(600), seed)
                    answers = GraphSession(head.onnx).run({"embedding": found[head.backbone][train.rows :]})
                    right = answers["label"] == np.array(test.classes, object)[test.target]
                    rows.setdefault((shots, family), []).append(float(np.mean(right)))
                    if family == "auto":
                        families[shots][head.diagnostics["head"][0]["family"]] += 1
        for (shots, family), values in rows.items():
            row = {"part": "few", "set": name, "classes": len(train.classes), "shots": shots, "head": family}
            row |= {"seeds": len(values), "accuracy": interval(values)}
            if family != "ridge" and "ridge" in heads:
                row["minus_ridge"] = interval(np.subtract(values, rows[shots, "ridge"]).tolist())
            if family == "auto":
                row["taken"] = ", ".join(f"{key} {count}" for key, count in families[shots].most_common())
            record(row)
    return 0


def interval(values: list[float]) -> dict[str, float]:
    """Return the mean over seeds with 95 % limits by Student's t."""
    from scipy.stats import t

    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, len(values) - 1)) * spread / len(values) ** 0.5
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


if __name__ == "__main__":
    raise SystemExit(main())
