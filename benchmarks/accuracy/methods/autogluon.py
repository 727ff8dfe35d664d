"""AutoGluon's presets on one thread, with its time limit counted in CPU-seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.measures import Fold
from benchmarks.accuracy.methods.contract import Method, folder_bytes

PRESETS = {"ag_medium": "medium_quality", "ag_good": "good_quality", "ag_best": "best_quality_v150"}
LABEL = "__label__"


class AutoGluon(Method):
    """``TabularPredictor`` with one preset; log loss (or RMSE) as its metric, so that it calibrates itself.

    Folds run one after the other in this process. Dynamic stacking is off for ``good`` and ``best``: it only
    spends more (a favour on cost).
    """

    libraries = (
        "autogluon.tabular",
        "catboost",
        "lightgbm",
        "torch",
        "xgboost",
    )

    on_cpu_clock = True

    def __init__(self, family: str, seconds: float) -> None:
        super().__init__()
        self.preset = PRESETS[family]
        self.seconds = seconds

    def load_libraries(self) -> None:
        super().load_libraries()
        import torch

        torch.set_num_threads(1)

    def versions(self) -> dict[str, str]:
        import catboost
        import lightgbm
        import torch
        from autogluon.tabular import __version__

        return {
            "autogluon": __version__,
            "lightgbm": lightgbm.__version__,
            "catboost": catboost.__version__,
            "torch": torch.__version__,
        }

    def fit(self, fold: Fold, folder: Path) -> None:
        from autogluon.tabular import TabularPredictor

        self.kind = fold.kind
        self.path = folder / "predictor"
        metric = "root_mean_squared_error" if fold.kind == "regression" else "log_loss"
        options: dict[str, Any] = {
            "presets": self.preset,
            "time_limit": self.seconds,
            "num_cpus": 1,
            "num_gpus": 0,
        }
        if self.preset != "medium_quality":
            options |= {
                "dynamic_stacking": False,
                "ag_args_ensemble": {"fold_fitting_strategy": "sequential_local"},
            }
        self.model = TabularPredictor(
            LABEL, path=str(self.path), problem_type=fold.kind, eval_metric=metric, verbosity=0
        ).fit(fold.train.assign(**{LABEL: fold.train_target}), **options)
        names = self.model.model_names()
        self.notes = {
            "members": len(names),
            "chosen": self.model.model_best,
            "bytes_after_fit": folder_bytes(self.path),
        }

    def predict(self, frame: Any) -> np.ndarray:
        if self.kind == "regression":
            return np.asarray(self.model.predict(frame).to_numpy())
        return np.asarray(self.model.predict_proba(frame).to_numpy())

    def save(self, folder: Path) -> int:
        clone = folder / "deploy"
        self.model = self.model.clone_for_deployment(path=str(clone), return_clone=True)
        size = folder_bytes(clone)
        self.model.persist()
        return size
