"""Accuracy and macro F1 of what ``mw.produce`` ships, and of the plain reference, on public text sets.

    OMP_NUM_THREADS=1 python -m benchmarks.text.run sms_spam,sst2

``produce`` goes through the whole line, from a file to a package, ``minilm`` and ``minilm_int8`` with that encoder;
``head`` and ``linear`` are its parts alone. All are
judged through their graphs. The reference is scikit-learn's TF-IDF of words and pairs of words
(characters and pairs for Chinese) with logistic regression, untuned. Rows are appended to
``results/`` as they are found.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.text.sets import NAMES, load
from modelworks.algorithms.backbones.fusion import payload_inputs
from modelworks.algorithms.plugins import backbone_choices, backbone_source, estimator
from modelworks.compute.embedding import embed_column, objects
from modelworks.compute.feeds import answer, batches, pack_columns
from modelworks.compute.runtime import GraphSession, single_row_latency_ms
from modelworks.core.budget import Budget
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples

NAMED = {
    "minilm": {"backbone": "text.minilm"},
    "minilm_int8": {"backbone": "text.minilm", "backbone_settings": {"text.minilm": {"precision": "int8"}}},
}
"""Options of orders that name their encoder."""
RESULTS = Path(__file__).parent / "results" / "2026-11-26.jsonl"


def reference(texts: list[str], codes: np.ndarray, asked: list[str], chinese: bool) -> np.ndarray:
    """Return the codes that the plain reference gives."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), analyzer="char" if chinese else "word")
    model = LogisticRegression(C=10, max_iter=300).fit(vectorizer.fit_transform(texts), codes)
    return np.asarray(model.predict(vectorizer.transform(asked)))


def measured(said: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return accuracy with exact binomial limits, and macro F1."""
    from scipy.stats import binomtest
    from sklearn.metrics import f1_score

    right = int((said == truth).sum())
    limits = binomtest(right, len(truth)).proportion_ci(method="exact")
    return {
        "accuracy": round(right / len(truth), 4),
        "low": round(limits.low, 4),
        "high": round(limits.high, 4),
        "macro_f1": round(float(f1_score(truth, said, average="macro")), 4),
    }


def record(row: dict[str, Any], results: Path = RESULTS) -> None:
    """Append a row and show it."""
    with results.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def head(train: TrainingSamples) -> Any:
    """Fit the default heads of text."""
    made = {name: backbone_source(name)().make(list(train.payload), 0) for name in backbone_choices("text")}
    train.backbones.update(made)
    for name, item in made.items():
        train.embeddings[name] = embed_column(item.onnx, payload_inputs(item, "text"), train.payload)
    return estimator("samples.heads")().fit(train, None, Budget(3600), 0)


def produced(
    texts: list[str], labels: list[str], test: np.ndarray, asked: np.ndarray, budget: float, model: str
) -> tuple[list[str], dict[str, Any]]:
    """Go through the door: a file of training rows, a sealed file of test rows, a package; returns its answers."""
    import modelworks as mw
    from modelworks.packaging.package import TrustPolicy, open_package

    start, before = time.perf_counter(), children_cpu_s()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, rows in (("train", np.flatnonzero(~test)), ("test", np.flatnonzero(test))):
            lines = [json.dumps({"text": texts[row], "label": f"c{labels[row]}"}) + "\n" for row in rows]
            (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        result = mw.produce(
            str(folder / "train.jsonl"), "label", name="texts", home=folder / "home", slots=1, budget=f"{budget:g}s",
            split={"test_data": str(folder / "test.jsonl")}, kind="binary" if len(set(labels)) == 2 else "multiclass",
            options={"payload": "text", **NAMED.get(model, {})}, limits={"latency_ms": 100, "size_mb": 100},
            explain=False,
        )  # fmt: skip
        found = {"verdict": result.verdict.kind.value, "wall_s": round(time.perf_counter() - start, 1)}
        found["cpu_s"] = round(children_cpu_s() - before, 1)
        if not result.line.path:
            return [], {**found, "how": result.verdict.cause}
        package = open_package(Path(result.line.path), TrustPolicy(require_signed=False))
        signature, session = package.manifest.signature, GraphSession(package.onnx)
        said = answer(session, signature, {"text": objects([texts[row] for row in asked])}, len(asked))[
            "label"
        ]
        _, row = next(batches(signature, {"text": objects([texts[asked[0]]])}, 1))
        latency = single_row_latency_ms(session, row, repeats=100, clock=time.thread_time)
        found |= {"size_mb": round(len(package.onnx) / 1e6, 2), "p50_ms": round(latency["p50"], 3)}
        return [str(item)[1:] for item in said], {**found, "how": str(result.line.chosen)}


def children_cpu_s() -> float:
    """Return CPU-seconds of the processes that this one started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Run the sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="?", default=",".join(NAMES))
    parser.add_argument("--models", default="reference,produce")
    parser.add_argument(
        "--budget", type=float, default=600.0, help="CPU-seconds of a task through mw.produce"
    )
    parser.add_argument("--most", type=int, default=100_000, help="rows of a set, at most")
    arguments = parser.parse_args()
    for name in arguments.names.split(","):
        texts, labels, test = load(name, arguments.most)
        classes = tuple(sorted(set(labels)))
        codes = np.array([classes.index(label) for label in labels], np.int64)
        known, asked = np.flatnonzero(~test), np.flatnonzero(test)
        known = np.random.default_rng(0).permutation(known)
        train = TrainingSamples(
            payload=objects([texts[row] for row in known]),
            column="text",
            modality="text",
            kind=TaskKind.BINARY if len(classes) == 2 else TaskKind.MULTICLASS,
            target=codes[known],
            classes=classes,
            weight=None,
            folds=(np.arange(len(known)) % 5).astype(np.int8),
        )
        payload = objects([texts[row] for row in asked])
        facts = {"set": name, "classes": len(classes), "train": len(known), "test": len(asked)}
        for model in arguments.models.split(","):
            start = time.process_time()
            if model == "produce" or model in NAMED:
                given, found = produced(texts, labels, test, asked, arguments.budget, model)
                if not given:
                    record({**facts, "model": model, **found})
                    continue
                said = np.array([classes.index(label) for label in given])
            elif model == "reference":
                said = reference(list(train.payload), train.target, list(payload), name.startswith("zh"))
                found = {"cpu_s": round(time.process_time() - start, 1)}
            else:
                fitted = (
                    head(train)
                    if model == "head"
                    else estimator("text.linear")().fit(train, None, Budget(3600), 0)
                )
                found = {"cpu_s": round(time.process_time() - start, 1)}
                session = GraphSession(fitted.onnx)
                given = answer(session, fitted.signature, {"text": payload}, len(payload))["label"]
                said = np.array([classes.index(str(label)) for label in given])
                row = pack_columns(fitted.signature, {"text": payload[:1]}, 1)
                latency = single_row_latency_ms(session, row, repeats=100, clock=time.thread_time)
                found |= {"size_mb": round(len(fitted.onnx) / 1e6, 2), "p50_ms": round(latency["p50"], 3)}
                found["how"] = fitted.diagnostics["chosen"]
            record({**facts, "model": model, **measured(said, codes[asked]), **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
