"""Data in: any source to a typed table, its profile, the guard against leaks, training and test parts."""

from modelworks.data.guard import guard
from modelworks.data.ingest import ingest
from modelworks.data.options import ReadOptions, TableLimits
from modelworks.data.profile import profile
from modelworks.data.split import Split, split
from modelworks.data.store import open_table
from modelworks.data.target import Target, infer_task_kind, read_target
from modelworks.data.training_table import TrainingTable, feature_names, training_table
from modelworks.data.typed import input_tensors, tensor_of, typed_columns

__all__ = [
    "ReadOptions",
    "Split",
    "TableLimits",
    "Target",
    "TrainingTable",
    "feature_names",
    "guard",
    "infer_task_kind",
    "ingest",
    "input_tensors",
    "open_table",
    "profile",
    "read_target",
    "split",
    "tensor_of",
    "training_table",
    "typed_columns",
]
