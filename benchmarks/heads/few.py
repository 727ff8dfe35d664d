"""The few-shot curve: 5, 10, 20 and 50 labels per class, over seeds, on two image sets and one text set.

    OMP_NUM_THREADS=1 python -m benchmarks.heads.few

The backbone has seen every training sample without its label; a seed draws the labelled ones. Each seed draws for
all counts, and the heads of all seeds and counts are judged on the same test samples.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.deep.sets import load
from benchmarks.heads.results import record
from benchmarks.heads.samples import embedded
from modelworks.algorithms.plugins import backbone_choices, estimator
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget

SETS = ("cifar10_6k", "trashnet_half", "sst2")
SHOTS = (5, 10, 20, 50)


def main() -> int:
    """Run the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    for name in arguments.sets.split(","):
        train, test = load(name)
        modality = train.modality
        names = list(backbone_choices(modality))
        backbones, found = embedded([*train.payload, *test.payload], train.rows, modality, names)
        rows = {shots: [] for shots in SHOTS}  # type: dict[int, list[float]]
        for seed in range(arguments.seeds):
            order = np.random.default_rng(seed).permutation(train.rows)
            for shots in SHOTS:
                chosen = np.concatenate(
                    [order[train.target[order] == code][:shots] for code in range(len(train.classes))]
                )
                few = train.take(chosen)
                few.embeddings.update({key: value[chosen] for key, value in found.items()})
                few.backbones.update(backbones)
                (head,) = estimator("samples.heads")().fit_all([few], Budget(600), seed)
                answers = GraphSession(head.onnx).run({"embedding": found[head.backbone][train.rows :]})
                right = answers["label"] == np.array(test.classes, object)[test.target]
                rows[shots].append(float(np.mean(right)))
        for shots, values in rows.items():
            mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
            half = 2.262 * spread / len(values) ** 0.5 if len(values) == 10 else float("nan")
            record(
                {"part": "few", "set": name, "classes": len(train.classes), "shots": shots, "seeds": len(values),
                 "accuracy": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4),
                 "spread": round(spread, 4)}
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
