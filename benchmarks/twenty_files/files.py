"""The files, their targets, and what a practitioner would expect of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        path: Below the shared data folder.
        target: Column to predict.
        metric: What to look at on the sealed rows.
        floor: The value an untuned gradient booster reaches there (see the data index), less a tolerance for another
            split and for small test sets.
        ceiling: Above it a practitioner would suspect that a column knows the answer.
    """

    path: str
    target: str
    metric: str
    floor: float
    ceiling: float = 1.0


CASES = (
    Case("abalone/abalone.csv", "c8", "r2", 0.50),
    Case("adult/adult-train.csv.gz", "c14", "roc_auc", 0.91),
    Case("auto_imports/auto_imports.csv", "c25", "r2", 0.75),
    Case("auto_mpg/mpg.csv", "mpg", "r2", 0.80),
    Case("beijing_pm25/pollution.csv.gz", "pm2.5", "r2", 0.50),
    Case("boston_housing/BostonHousing.csv", "medv", "r2", 0.70),
    Case("breast_cancer_wdbc/breast_cancer_wdbc.tsv.gz", "target", "roc_auc", 0.97),
    Case("california_housing/housing.csv.gz", "median_house_value", "r2", 0.79),
    Case("cardio_train/cardio_train.csv.gz", "cardio", "roc_auc", 0.79),
    Case("connect4/connect4.tsv.gz", "target", "accuracy", 0.78),
    Case("diamonds/diamonds.csv.gz", "price", "r2", 0.97),
    Case("german_credit/german.csv", "c20", "roc_auc", 0.72),
    Case("har_weight_lifting/har_train.csv.gz", "classe", "accuracy", 0.97),
    Case("heart_cleveland/heart_cleveland.tsv.gz", "target", "roc_auc", 0.82),
    Case("horse_colic/horse-colic.csv", "c23", "roc_auc", 0.75),
    Case("house_16H/house_16H.tsv.gz", "target", "r2", 0.50),
    Case("letter/letter.tsv.gz", "target", "accuracy", 0.94),
    Case("magic_gamma/magic_gamma.tsv.gz", "target", "roc_auc", 0.92),
    Case("mammography/mammography.csv", "c6", "roc_auc", 0.90),
    Case("mushroom/mushroom.tsv.gz", "target", "roc_auc", 0.999),
    Case("nursery/nursery.tsv.gz", "target", "accuracy", 0.97),
    Case("online_shoppers/online_shoppers_intention.csv.gz", "Revenue", "roc_auc", 0.91),
    Case("optdigits/optdigits.tsv.gz", "target", "accuracy", 0.96),
    Case("penguins/penguins.csv", "species", "accuracy", 0.93),
    Case("pima_diabetes/pima-indians-diabetes.csv", "c8", "roc_auc", 0.75),
    Case("satimage/satimage.tsv.gz", "target", "accuracy", 0.88),
    Case("shuttle/shuttle.tsv.gz", "target", "accuracy", 0.99),
    Case("sms_spam/sms.tsv", "c0", "roc_auc", 0.95),
    Case("spambase/spambase.tsv.gz", "target", "roc_auc", 0.97),
    Case("telco_churn/Telco-Customer-Churn.csv", "Churn", "roc_auc", 0.82),
    Case("titanic/titanic.csv", "survived", "roc_auc", 0.75),
    Case("wine_quality_white/winequality-white.csv", "c11", "r2", 0.35),
    Case("nyc311_animals/311_Animals_short.csv.gz", "Descriptor", "accuracy", 0.40),
    Case("airline_tweets/TwitterUSAirlineSentiment.csv.gz", "airline_sentiment", "accuracy", 0.60),
    Case("hate_speech/labeled_data.csv.gz", "class", "accuracy", 0.75, ceiling=0.97),
)
