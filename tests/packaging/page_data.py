# ruff: noqa: E501 - tables of data read better in rows
"""Data of reports in the shapes the other rooms give, small but complete."""

from __future__ import annotations

from typing import Any

DIGEST = "ab" * 32


def measure(name: str, value: float, *, up: bool = True) -> dict[str, Any]:
    return {
        "name": name, "value": value, "low": value * 0.9, "high": value * 1.05, "n": 178, "method": "bootstrap",
        "level": 0.95, "higher_is_better": up,
    }  # fmt: skip


def base(kind: str) -> dict[str, Any]:
    return {
        "title": f"{kind} task",
        "created": "2026-11-24T01:35:06.771Z",
        "task": {"name": "churn", "target": "churn", "kind": kind, "data": "/home/ann/private/churn.csv"},
        "verdict": {
            "kind": "needs_evidence",
            "cause": "Too few rows of one slice.",
            "fix": "collect 40 more rows of city=Basel",
            "needed": {"city=Basel": 40},
            "checks": [
                {"name": "roc_auc >= 0.8", "outcome": "passed", "detail": "0.91", "slice": "", "needed": None},
                {"name": "roc_auc >= 0.7", "outcome": "unknown", "detail": "12 rows", "slice": "city=Basel", "needed": 40},
            ],
        },
        "fit": {
            "members": [
                {"name": "boosted", "oof_loss": 0.31, "cpu_s": 0.2, "weight": 0.7, "kept": True, "why": "best"},
                {"name": "linear", "oof_loss": 0.42, "cpu_s": 0.01, "weight": 0.0, "kept": False, "why": "adds nothing"},
            ],
            "chosen": "pool", "oof_loss": 0.30, "threshold": 0.4, "folds": 5,
        },
        "profile": {
            "rows": 891,
            "sampled": None,
            "columns": [
                {
                    "name": "age", "kind": "number", "missing": 177, "missing_share": 0.2, "distinct": 88, "min": 0.4, "max": 80,
                    "quantiles": {"0.5": 28}, "histogram": {"edges": [0, 20, 40, 80], "counts": [200, 400, 114]},
                    "reason": "numbers",
                },
                {"name": "city", "kind": "category", "missing": 0, "distinct": 2, "top": [["Bern", 600], ["Basel", 291]], "reason": "texts"},
                {"name": "joined", "kind": "datetime", "first": "2019-01-01", "last": "2024-01-01", "reason": "dates"},
                {"name": "churn", "kind": "boolean", "distinct": 2, "top": [["no", 549], ["yes", 342]], "reason": "yes or no"},
                {"name": "id", "kind": "identifier", "distinct": 891, "examples": ["a1", "a2"], "reason": "unique"},
            ],
        },
        "guard": [
            {"code": "leak_copy", "severity": "error", "column": "alive", "message": "It is the target.", "exclude": True},
            {"code": "small", "severity": "info", "column": None, "message": "Few rows.", "exclude": False},
        ],
        "measured": {"latency_ms": {"p50": 0.05, "p99": 0.2}, "size_bytes": 123_456},
        "cost": {
            "currency": "EUR", "money": 0.00002, "cpu_s": 1.2, "wall_s": 2.0, "energy_j": 40.0, "energy_source": "declared",
            "peak_mb": 210.0, "human_s": 30.0, "gpu_s": 0.0,
            "parts": [{"name": "fit", "cpu_s": 1.0, "money": 0.00001, "shared": False}, {"name": "ingest", "cpu_s": 0.2, "shared": True}],
        },
        "lineage": {"dataset": {"digest": DIGEST, "name": "churn.csv"}, "recipe": {"name": "tables"}, "note": "x"},
        "signature": {
            "inputs": [{"name": "numbers", "datatype": "FP32", "shape": [-1, 2], "columns": ["age", "income"]}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
        },
        "columns": [{"name": "age"}, {"name": "city"}],
        "commands": [["Check it", "mw package verify churn"]],
    }  # fmt: skip


def binary() -> dict[str, Any]:
    evaluation = {
        "kind": "binary", "metric": "roc_auc", "rows": 178, "positive": "yes", "look": 2,
        "measures": [measure("roc_auc", 0.9), measure("log_loss", 0.3, up=False)],
        "chance": {"roc_auc": 0.5, "average_precision": 0.38},
        "undefined": {"precision": "the model never names the positive class"},
        "calibration": {
            "of": "the positive class", "ece": 0.04, "ece_if_perfect": {"mean": 0.03, "highest": 0.05}, "miscalibrated": False,
            "bins": [
                {"predicted": 0.1, "observed": 0.12, "low": 0.02, "high": 0.3, "n": 40},
                {"predicted": 0.8, "observed": 0.7, "low": 0.5, "high": 0.9, "n": 40},
            ],
        },
        "confusion": {"labels": ["no", "yes"], "counts": [[95.0, 15.0], [28.0, 40.0]]},
        "curves": {"roc": {"x": [0, 0.2, 1], "y": [0, 0.8, 1]}, "pr": {"x": [0.1, 0.5, 1], "y": [1, 0.8, 0.4]}},
        "thresholds": [
            {"threshold": 0.2, "precision": 0.5, "recall": 0.9, "false_positive_rate": 0.4, "flagged": 0.6},
            {"threshold": 0.8, "precision": 0.9, "recall": 0.4, "false_positive_rate": 0.1, "flagged": 0.2},
        ],
        "baselines": [{"name": "constant", "value": 0.5}, {"name": "linear", "value": 0.85}],
        "comparisons": {"linear": {"difference": 0.05, "low": 0.01, "high": 0.09, "p_value": 0.01, "method": "delong", "better": True}},
        "comparison": {"other": 0.88, "difference": 0.02, "low": -0.01, "high": 0.05, "p_value": 0.1, "method": "delong"},
        "slices": [
            {"slice": "city = Bern", "n": 120, "value": 0.9, "low": 0.8, "high": 0.95},
            {"slice": "city = Basel", "n": 12, "value": None, "reason": "12 rows; 30 are needed"},
        ],
        "found_slices": [
            {"slice": "age = above 60", "n": 60, "loss": 0.6, "loss_elsewhere": 0.3, "low": 0.1, "high": 0.5, "p_adjusted": 0.001, "of": "log loss"}
        ],
        "importance": [
            {"column": "age", "value": 0.08, "error": 0.01, "share": 0.9, "method": "permutation importance", "metric": "roc_auc"},
            {"column": "city", "value": -0.01, "error": 0.01, "share": 0.0, "metric": "roc_auc"},
        ],
    }  # fmt: skip
    return {**base("binary"), "evaluation": evaluation}


def regression() -> dict[str, Any]:
    evaluation = {
        "kind": "regression", "metric": "rmse", "rows": 178, "measures": [measure("rmse", 540.2, up=False), measure("r2", 0.98)],
        "scatter": {"truth": [1.0, 2.0, 30.0], "predicted": [1.5, 2.5, 28.0]},
        "residuals": {
            "histogram": {"edges": [-2, -1, 0, 1], "counts": [3, 10, 4]},
            "by_decile": [
                {"predicted_low": 1.0, "predicted_high": 2.0, "mean_error": 0.1, "mean_absolute_error": 0.4, "rows": 9},
                {"predicted_low": 2.0, "predicted_high": 9.0, "mean_error": -0.3, "mean_absolute_error": 0.9, "rows": 9},
            ],
        },
        "baselines": [{"name": "constant", "value": 3985.0}],
    }  # fmt: skip
    return {**base("regression"), "evaluation": evaluation}


def multiclass() -> dict[str, Any]:
    labels = [f"class {index}" for index in range(60)]
    evaluation = {
        "kind": "multiclass", "metric": "log_loss", "rows": 900, "measures": [measure("log_loss", 0.6, up=False)],
        "confusion": {"labels": labels, "most_confused": [{"true": "class 1", "named": "class 2", "count": 9.0}]},
    }  # fmt: skip
    return {**base("multiclass"), "evaluation": evaluation}


def multilabel() -> dict[str, Any]:
    evaluation = {
        "kind": "multilabel", "metric": "macro_f1", "rows": 90, "measures": [measure("macro_f1", 0.6)],
        "labels": [{"label": "red", "rows": 80, "positives": 9, "roc_auc": 0.9, "f1": None, "accuracy": 0.95}],
    }  # fmt: skip
    return {**base("multilabel"), "evaluation": evaluation}


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def samples() -> dict[str, Any]:
    """A report of what there is to look at in every modality at once."""
    picture = {"media": "image/png", "data": PIXEL}
    shown = {
        "about": "Nearest by the cosine of the embedding.",
        "groups": [
            {
                "title": "Most confident errors", "note": "The model was sure and wrong.",
                "items": [
                    {"row": 7, "truth": "cat", "said": "dog", "share": 0.97, "picture": picture, "heat": picture,
                     "near": [{"truth": "dog", "similarity": 0.9, "picture": picture}]},
                    {"name": "review 3", "truth": "good", "said": "bad", "share": 0.8, "text": "not at all <b>bad</b> " * 40},
                    {"row": 9, "truth": "pump", "score": 3.2, "series": [[0.0, 1.0, 0.5], [1.0, 0.0, 0.2]]},
                ],
            }
        ],
        "map": {"x": [0.0, 1.0, 2.0], "y": [0.5, 1.0, 0.0], "truth": ["cat", "dog", "cat"], "right": [True, False, True], "explained": 0.42},
        "forecasts": [
            {"name": "OT", "origin": "2017-10-23 04:00", "history": [1.0, None, 2.0, 3.0], "prediction": [3.5, 4.0],
             "low": [3.0, 3.2], "high": [4.0, 4.9], "actual": [3.4, None], "level": 0.8, "metric": "mase", "value": 0.7}
        ],
        "timelines": [{"name": "valve", "values": [0.0, 0.1, 5.0, 0.2], "scores": [0.1, 0.2, 4.0, 0.1],
                       "steps": [900, 907, 911, 920], "threshold": 1.0, "alarms": 1, "events": [[910, 913]]}],
    }  # fmt: skip
    return {**multiclass(), "samples": shown}


def order() -> dict[str, Any]:
    verdicts = ["released", "refused", "needs_evidence", "failed"]
    lines = [
        {
            "task": f"task-{index}", "verdict": verdicts[index % 4], "metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9,
            "target": "y", "data": "parts.csv", "kind": "binary", "cpu_s": 1.0 + index, "money": 0.00001, "wall_s": 1.0,
            "size_bytes": 10_000, "latency_ms": 0.02, "cause": "because", "fix": "do this", "report": f"task-{index}.html",
        }
        for index in range(8)
    ]  # fmt: skip
    points = [{"n": index + 1, "cpu_s": 2.0 - index / 10, "shared": True} for index in range(8)]
    return {
        "title": "Order press-shop",
        "created": "2026-11-24T01:35:06.771Z",
        "order": {"name": "press-shop", "tasks": 8},
        "lines": lines,
        "cost": base("binary")["cost"],
        "learning": {"points": [*points, {"n": 1, "cpu_s": 3.0, "shared": False}], "slope": -0.1, "low": -0.2, "high": -0.05},
        "forecast": {"cpu_s": 2.0, "low": 1.0, "high": 3.0, "wall_s": 3.0, "money": 0.00003},
        "notes": ["One table is shared."],
        "commands": [["See the bill", "mw cost"]],
    }  # fmt: skip


PAGES = {
    "binary": binary,
    "regression": regression,
    "multiclass": multiclass,
    "multilabel": multilabel,
    "samples": samples,
}
