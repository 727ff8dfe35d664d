"""Anomalies of the public streams through the shipped graph, beside a windowed Gaussian and random scores.

OMP_NUM_THREADS=1 python -m benchmarks.series.alarms SET...
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from benchmarks.series.injected import injected
from benchmarks.series.results import measure_named, write_row
from benchmarks.series.sets import Stream, nab, skab, ucr
from modelworks.algorithms.series.anomaly import AnomalyRecipe, baselines
from modelworks.core.budget import Budget
from modelworks.data.samples.panel import panel_of_arrays
from modelworks.evaluation.nab import best_threshold, nab_terms, normalised, windows_of
from modelworks.production.stream_alarms import scored

REFERENCES = {
    "nab_a": "58 files, threshold fitted to their labels: HTM ~70, KNN-CAD 58.0, windowed Gaussian 39.6, random 11.0",
    "skab_valve1": "F1, whole SKAB: Conv-AE 0.78, MSET 0.78, T2+Q 0.76, LSTM-AE 0.74, IForest 0.29",
    "ucr_anomaly_135": "event found or not",
    "injected": "made here; alarms of events were designed on them",
}
STREAMS = {"nab_a": nab, "skab_valve1": skab, "ucr_anomaly_135": ucr, "injected": injected}
Answer = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]


def answers(stream: Stream) -> tuple[dict[str, Answer], dict[str, float]]:
    """Return score and alarm of every judged value by model, and the CPU-seconds of our fits."""
    names = tuple(f"c{index}" for index in range(len(stream.values)))
    before = panel_of_arrays([stream.values[:, : stream.first]], channels=names)
    panel = panel_of_arrays([stream.values], season=1, channels=names)
    spent: dict[str, float] = {}
    models = {}
    for alarm in ("state", "event"):
        mark = time.process_time()
        model, native = AnomalyRecipe(alarm=alarm).fit_native(before, Budget(60), 0)
        spent[f"modelworks, {alarm}"] = time.process_time() - mark
        models[f"modelworks, {alarm}"] = model
        plain = baselines(len(names), native.length)["windowed Gaussian"]
        models.setdefault("windowed Gaussian", plain)
    found: dict[str, Answer] = {}
    for name, one in models.items():
        outputs = scored(panel, one, np.array([stream.first]))
        found[name] = outputs["score"].astype(float), outputs["anomalous"]
    random = np.random.default_rng(0).random(len(stream.label) - stream.first)
    found["random"] = random, random > 0.998
    return found, spent


def run(name: str) -> None:
    """Measure one set, and of NAB the files that were not looked at while alarms of events were designed."""
    streams = list(STREAMS[name]())
    done = [answers(stream) for stream in streams]
    measure(name, streams, done)
    if name == "nab_a":
        kept = [index for index, stream in enumerate(streams) if stream.name.startswith("realKnownCause")]
        measure("nab_a, realKnownCause", [streams[index] for index in kept], [done[index] for index in kept])


def measure(name: str, streams: list[Stream], done: list[tuple[dict[str, Answer], dict[str, float]]]) -> None:
    """Write a row per model."""
    labels = [stream.label[stream.first :] for stream in streams]
    windows = [windows_of(label) for label in labels]
    for model in done[0][0]:
        scores, alarms = ([item[0][model][part] for item in done] for part in (0, 1))
        raw = [nab_terms(alarm, events) for alarm, events in zip(alarms, windows, strict=True)]
        hit, truth = np.concatenate(alarms), np.concatenate(labels)
        both = int((hit & truth).sum())
        begun = [int((np.diff(np.concatenate([[0], alarm.astype(np.int8)])) > 0).sum()) for alarm in alarms]
        caught = [
            bool(alarm[low : high + 1].any())
            for alarm, events in zip(alarms, windows, strict=True)
            for low, high in events
        ]
        tops = [
            any(low - 100 <= int(np.argmax(score)) <= high + 100 for low, high in events)
            for score, events in zip(scores, windows, strict=True) if events
        ]  # fmt: skip
        row = {
            "set": name,
            "model": model,
            "f1": 2 * both / max(1, int(hit.sum() + truth.sum())),
            "alarm_rate": float(hit.mean()),
            "alarms_per_1000": 1000 * sum(begun) / len(hit),
            "precision": both / max(1, int(hit.sum())),
            "events_caught": f"{sum(caught)} of {len(caught)}",
            "top_in_event": f"{sum(tops)} of {len(tops)}",
            "nab": float(normalised(sum(item[0].sum() for item in raw), sum(item[1].sum() for item in raw))),
            "nab_best_threshold": best_threshold(scores, windows, [0] * len(scores))[1],
            "cpu_s": sum(item[1][model] for item in done) if model in done[0][1] else None,
            "reference": REFERENCES[name.partition(",")[0]],
        }
        write_row("alarms", row)


if __name__ == "__main__":
    raise SystemExit(measure_named(__doc__, STREAMS, run))
