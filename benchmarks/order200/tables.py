"""The tables of the order: every column a target where the table is small, the main target where it is not."""

from __future__ import annotations

EVERY_COLUMN = (
    "penguins/penguins.csv",
    "auto_mpg/mpg.csv",
    "heart_cleveland/heart_cleveland.tsv.gz",
    "auto_imports/auto_imports.csv",
    "boston_housing/BostonHousing.csv",
    "titanic/titanic.csv",
    "german_credit/german.csv",
    "pima_diabetes/pima-indians-diabetes.csv",
    "breast_cancer_wdbc/breast_cancer_wdbc.tsv.gz",
    "horse_colic/horse-colic.csv",
    "abalone/abalone.csv",
    "wine_quality_white/winequality-white.csv",
    "mushroom/mushroom.tsv.gz",
    "nursery/nursery.tsv.gz",
    "telco_churn/Telco-Customer-Churn.csv",
    "online_shoppers/online_shoppers_intention.csv.gz",
    "magic_gamma/magic_gamma.tsv.gz",
    "mammography/mammography.csv",
)
MAIN_TARGET = (
    ("adult/adult-train.csv.gz", "c14"),
    ("california_housing/housing.csv.gz", "median_house_value"),
    ("diamonds/diamonds.csv.gz", "price"),
    ("optdigits/optdigits.tsv.gz", "target"),
    ("satimage/satimage.tsv.gz", "target"),
    ("spambase/spambase.tsv.gz", "target"),
)


def order_document(data: str, budget: str) -> dict[str, object]:
    """Return the order as a dictionary.

    Args:
        data: Folder of the tables.
        budget: CPU time of each fit.
    """
    tasks: list[dict[str, object]] = [{"data": f"{data}/{path}", "targets": "*"} for path in EVERY_COLUMN]
    tasks += [{"data": f"{data}/{path}", "target": target} for path, target in MAIN_TARGET]
    return {"name": "order200", "defaults": {"budget": budget}, "tasks": tasks}
