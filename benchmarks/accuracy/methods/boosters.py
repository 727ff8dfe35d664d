"""LightGBM with early stopping, CatBoost as it comes, and FLAML on a budget of CPU-seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.measures import Fold
from benchmarks.accuracy.methods.contract import Method
from benchmarks.accuracy.methods.scikit import as_categories, category_types


def plain_names(frame: Any) -> Any:
    """Return ``frame`` with columns f0, f1, ...: LightGBM refuses JSON signs in names."""
    return frame.set_axis([f"f{index}" for index in range(frame.shape[1])], axis=1)


class LightGbm(Method):
    """LightGBM, rate 0.05, at most 3,000 rounds, stopped after 50 without gain on a 20 % holdout."""

    libraries = (
        "pandas",
        "lightgbm",
        "sklearn.model_selection",
    )

    def versions(self) -> dict[str, str]:
        import lightgbm

        return {"lightgbm": lightgbm.__version__}

    def fit(self, fold: Fold, folder: Path) -> None:
        import lightgbm
        from sklearn.model_selection import train_test_split

        self.kind = fold.kind
        self.types = category_types(fold)
        regression = fold.kind == "regression"
        target = fold.train_target
        train, valid = train_test_split(
            np.arange(len(target)), test_size=0.2, random_state=0, stratify=None if regression else target
        )
        family = lightgbm.LGBMRegressor if regression else lightgbm.LGBMClassifier
        self.model = family(n_estimators=3000, learning_rate=0.05, n_jobs=1, random_state=0, verbose=-1)
        frame = plain_names(as_categories(fold.train, self.types))
        self.model.fit(
            frame.iloc[train],
            target[train],
            eval_set=[(frame.iloc[valid], target[valid])],
            callbacks=[lightgbm.early_stopping(50, verbose=False)],
        )
        self.notes = {"rounds": int(self.model.best_iteration_)}

    def predict(self, frame: Any) -> np.ndarray:
        frame = plain_names(as_categories(frame, self.types))
        outputs = self.model.predict(frame) if self.kind == "regression" else self.model.predict_proba(frame)
        return np.asarray(outputs)

    def save(self, folder: Path) -> int:
        path = folder / "model.txt"
        self.model.booster_.save_model(path, num_iteration=self.model.best_iteration_)
        return path.stat().st_size


class CatBoost(Method):
    """CatBoost with default settings (1,000 rounds) and native categories."""

    libraries = (
        "pandas",
        "catboost",
    )

    def versions(self) -> dict[str, str]:
        import catboost

        return {"catboost": catboost.__version__}

    def fit(self, fold: Fold, folder: Path) -> None:
        from catboost import CatBoostClassifier, CatBoostRegressor

        self.kind, self.categories = fold.kind, fold.categories
        family = CatBoostRegressor if fold.kind == "regression" else CatBoostClassifier
        self.model = family(
            thread_count=1, verbose=0, random_seed=0, allow_writing_files=False, cat_features=fold.categories
        )
        self.model.fit(self._labelled(fold.train), fold.train_target)

    def _labelled(self, frame: Any) -> Any:
        labels = {
            name: frame[name].map(lambda value: "(missing)" if value is None else value).astype(str)
            for name in self.categories
        }
        return frame.assign(**labels)

    def predict(self, frame: Any) -> np.ndarray:
        frame = self._labelled(frame)
        if self.kind == "regression":
            return np.asarray(self.model.predict(frame, thread_count=1))
        return np.asarray(self.model.predict_proba(frame, thread_count=1))

    def save(self, folder: Path) -> int:
        self.model.save_model(str(folder / "model.cbm"))
        return (folder / "model.cbm").stat().st_size


class Flaml(Method):
    """FLAML's search over its default learners within a budget of CPU-seconds."""

    libraries = (
        "pandas",
        "catboost",
        "flaml",
        "flaml.automl",
        "lightgbm",
        "xgboost",
    )

    on_cpu_clock = True

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def versions(self) -> dict[str, str]:
        import flaml
        import lightgbm

        return {"flaml": flaml.__version__, "lightgbm": lightgbm.__version__}

    def fit(self, fold: Fold, folder: Path) -> None:
        from flaml import AutoML

        self.kind = fold.kind
        self.types = category_types(fold)
        regression = fold.kind == "regression"
        self.model = AutoML()
        self.model.fit(
            X_train=plain_names(as_categories(fold.train, self.types)),
            y_train=fold.train_target,
            task="regression" if regression else "classification",
            metric="rmse" if regression else "log_loss",
            time_budget=self.seconds,
            n_jobs=1,
            seed=0,
            verbose=0,
        )
        self.notes = {"chosen": self.model.best_estimator}

    def predict(self, frame: Any) -> np.ndarray:
        frame = plain_names(as_categories(frame, self.types))
        outputs = self.model.predict(frame) if self.kind == "regression" else self.model.predict_proba(frame)
        return np.asarray(outputs)

    def save(self, folder: Path) -> int:
        import joblib

        joblib.dump(self.model.model, folder / "model.joblib")
        return (folder / "model.joblib").stat().st_size
