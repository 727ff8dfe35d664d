"""Imported by each worker before its first job, so that no single task is charged for loading the libraries."""

from modelworks.algorithms.tables.baselines import fit_baselines
from modelworks.algorithms.tables.recipe import TableRecipe
from modelworks.data import guard, ingest, open_table, profile, read_target, split, training_table
from modelworks.evaluation import compare, evaluate, importance, judge
from modelworks.packaging import build, open_package, render_model_report

LOADED = (
    TableRecipe, fit_baselines,
    ingest, open_table, profile, split, guard, read_target, training_table,
    evaluate, compare, importance, judge,
    build, open_package, render_model_report,
)  # fmt: skip
