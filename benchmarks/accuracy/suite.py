"""The tables of the accuracy benchmark: where each comes from and how its columns are to be read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LOCK = HERE / "tables.json"


def shared_folder() -> Path:
    """Return the folder that holds ``data/``: ``MODELWORKS_SHARED``, else ``shared`` beside the checkout."""
    return Path(os.environ.get("MODELWORKS_SHARED", REPOSITORY.parent / "shared"))


def work_folder() -> Path:
    """Return the folder of prepared tables and stored predictions: ``MODELWORKS_BENCH_WORK`` or ``work``."""
    return Path(os.environ.get("MODELWORKS_BENCH_WORK", HERE / "work"))


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One table: raw files below ``shared/data/<name>``, the target and the columns that need a word."""

    name: str
    files: tuple[str, ...]
    target: str
    kind: str
    """``binary``, ``multiclass`` or ``regression``."""
    separator: str = ","
    header: bool = True
    """False: the file has no header line and its names are in ``columns.txt``."""
    categories: tuple[str, ...] = ()
    """Columns of integer codes that are categories; columns of text are categories anyway. ``*`` = all."""
    drop: tuple[str, ...] = ()
    """Identifiers, leaks of the target and free text."""
    held_out: bool = False
    """True: nobody looks at this table while designing the recipe; see README.md."""


def _pmlb(name: str, kind: str, held_out: bool = False, categories: tuple[str, ...] = ()) -> TableSpec:
    return TableSpec(
        name=name,
        files=(f"{name}.tsv.gz",),
        target="target",
        kind=kind,
        separator="\t",
        categories=categories,
        held_out=held_out,
    )


_HORSE_CODES = (0, 1, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 20, 22)

SUITE: tuple[TableSpec, ...] = (
    TableSpec(
        name="auto_imports",
        files=("auto_imports.csv",),
        target="c25",
        kind="regression",
        header=False,
        held_out=True,
    ),
    TableSpec(
        name="horse_colic",
        files=("horse-colic.csv",),
        target="c23",
        kind="binary",
        header=False,
        categories=tuple(f"c{i}" for i in _HORSE_CODES),
        drop=("c2", "c24", "c25", "c26", "c27"),
    ),
    _pmlb(
        "heart_cleveland",
        "binary",
        held_out=True,
        categories=("Chest pain type", "Resting ecg", "Slope", "Thal"),
    ),
    TableSpec(name="penguins", files=("penguins.csv",), target="species", kind="multiclass"),
    TableSpec(name="auto_mpg", files=("mpg.csv",), target="mpg", kind="regression", drop=("name",)),
    TableSpec(
        name="boston_housing", files=("BostonHousing.csv",), target="medv", kind="regression", held_out=True
    ),
    _pmlb("breast_cancer_wdbc", "binary"),
    TableSpec(
        name="pima_diabetes",
        files=("pima-indians-diabetes.csv",),
        target="c8",
        kind="binary",
        header=False,
        held_out=True,
    ),
    TableSpec(name="titanic", files=("titanic.csv",), target="survived", kind="binary", drop=("alive",)),
    TableSpec(name="german_credit", files=("german.csv",), target="c20", kind="binary", header=False),
    TableSpec(name="abalone", files=("abalone.csv",), target="c8", kind="regression", header=False),
    _pmlb("spambase", "binary", held_out=True),
    TableSpec(
        name="wine_quality_white",
        files=("winequality-white.csv",),
        target="quality",
        kind="regression",
        header=False,
    ),
    _pmlb("optdigits", "multiclass"),
    _pmlb("satimage", "multiclass", held_out=True),
    TableSpec(
        name="telco_churn",
        files=("Telco-Customer-Churn.csv",),
        target="Churn",
        kind="binary",
        drop=("customerID",),
    ),
    _pmlb("mushroom", "binary", categories=("*",)),
    TableSpec(name="mammography", files=("mammography.csv",), target="c6", kind="binary", header=False),
    TableSpec(
        name="online_shoppers",
        files=("online_shoppers_intention.csv.gz",),
        target="Revenue",
        kind="binary",
        separator=";",
        held_out=True,
        categories=("OperatingSystems", "Browser", "Region", "TrafficType", "Weekend"),
    ),
    _pmlb("nursery", "multiclass", held_out=True, categories=("*",)),
    TableSpec(
        name="har_weight_lifting",
        files=("har_train.csv.gz",),
        target="classe",
        kind="multiclass",
        held_out=True,
    ),
    _pmlb("magic_gamma", "binary"),
    _pmlb("letter", "multiclass"),
    TableSpec(
        name="california_housing", files=("housing.csv.gz",), target="median_house_value", kind="regression"
    ),
    _pmlb("house_16H", "regression", held_out=True),
    TableSpec(
        name="adult",
        files=("adult-train.csv.gz", "adult-test.csv.gz"),
        target="income",
        kind="binary",
        header=False,
    ),
    TableSpec(name="diamonds", files=("diamonds.csv.gz",), target="price", kind="regression"),
    _pmlb("shuttle", "multiclass"),
    _pmlb("connect4", "multiclass", categories=("*",)),
    TableSpec(
        name="cardio_train",
        files=("cardio_train.csv.gz",),
        target="cardio",
        kind="binary",
        separator=";",
        drop=("id",),
    ),
)

SPECS = {spec.name: spec for spec in SUITE}
HELD_OUT = tuple(spec.name for spec in SUITE if spec.held_out)
