"""scikit-learn peers: a tuned linear model with honest preprocessing, and HistGradientBoosting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.measures import Fold
from benchmarks.accuracy.methods.contract import Method


def category_types(fold: Fold, most: int | None = None) -> dict[str, Any]:
    """Return a pandas categorical type per category column, from the training part."""
    import pandas as pd

    return {
        name: pd.CategoricalDtype(sorted(fold.train[name].dropna().unique())[:most])
        for name in fold.categories
    }


def as_categories(frame: Any, types: dict[str, Any]) -> Any:
    """Return ``frame`` with its category columns of those types; unseen labels become missing."""
    return frame.assign(**{name: frame[name].astype(kind) for name, kind in types.items()})


class Linear(Method):
    """Logistic or ridge regression, penalty by cross-validation, on scaled and quantile-normal columns."""

    libraries = (
        "pandas",
        "sklearn.compose",
        "sklearn.impute",
        "sklearn.linear_model",
        "sklearn.pipeline",
        "sklearn.preprocessing",
    )

    def versions(self) -> dict[str, str]:
        import sklearn

        return {"scikit-learn": sklearn.__version__}

    def fit(self, fold: Fold, folder: Path) -> None:
        from sklearn.linear_model import LogisticRegressionCV, RidgeCV
        from sklearn.pipeline import make_pipeline

        self.kind = fold.kind
        if fold.kind == "regression":
            model = RidgeCV(alphas=np.logspace(-2, 4, 13))
        else:
            model = LogisticRegressionCV(
                Cs=np.logspace(-3, 1, 6),
                cv=5,
                scoring="neg_log_loss",
                max_iter=300,
                l1_ratios=(0,),
                use_legacy_attributes=False,
            )
        self.model = make_pipeline(self._columns(fold), model).fit(fold.train, fold.train_target)

    def _columns(self, fold: Fold) -> Any:
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

        numbers = [name for name in fold.train.columns if name not in fold.categories]
        quantiles = QuantileTransformer(
            n_quantiles=min(1000, len(fold.train)), output_distribution="normal", random_state=0
        )
        filled = SimpleImputer(strategy="median", add_indicator=True)
        labelled = SimpleImputer(strategy="constant", fill_value="(missing)", missing_values=None)
        one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=3)
        parts = [
            ("scaled", make_pipeline(filled, StandardScaler()), numbers),
            ("quantiles", make_pipeline(SimpleImputer(strategy="median"), quantiles), numbers),
            ("labels", make_pipeline(labelled, one_hot), fold.categories),
        ]
        return ColumnTransformer([part for part in parts if part[2]])

    def predict(self, frame: Any) -> np.ndarray:
        outputs = self.model.predict(frame) if self.kind == "regression" else self.model.predict_proba(frame)
        return np.asarray(outputs)

    def save(self, folder: Path) -> int:
        import joblib

        joblib.dump(self.model, folder / "model.joblib")
        return (folder / "model.joblib").stat().st_size


class HistGradientBoosting(Linear):
    """HistGradientBoosting with its own early stopping, at most 1,000 rounds, native categories."""

    libraries = (
        "pandas",
        "sklearn.ensemble",
    )

    def fit(self, fold: Fold, folder: Path) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        self.kind = fold.kind
        self.types = category_types(fold, most=254)
        family = (
            HistGradientBoostingRegressor if fold.kind == "regression" else HistGradientBoostingClassifier
        )
        model = family(
            early_stopping=True, max_iter=1000, random_state=0, categorical_features=fold.categories or None
        )
        self.model = model.fit(as_categories(fold.train, self.types), fold.train_target)
        self.notes = {"rounds": int(model.n_iter_)}

    def predict(self, frame: Any) -> np.ndarray:
        return super().predict(as_categories(frame, self.types))
