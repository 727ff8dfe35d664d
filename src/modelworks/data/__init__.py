"""Data in: any source to a typed table, its profile, the guard against leaks, training and test parts.

Names are loaded on first use, so that the small process that parses untrusted bytes imports none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelworks.data.guards import guard
    from modelworks.data.ingestion import ingest
    from modelworks.data.joining import Joined, join_test_table
    from modelworks.data.options import ReadOptions, TableLimits
    from modelworks.data.overrides import with_kinds
    from modelworks.data.parts import Split, split
    from modelworks.data.profiling import profile
    from modelworks.data.rowkeys import sealed_digest
    from modelworks.data.store import open_table, write_table
    from modelworks.data.target import Target, infer_task_kind, read_target
    from modelworks.data.training_rows import TrainingTable, feature_names, training_table
    from modelworks.data.typed import input_tensors, tensor_of, typed_columns

_HOMES = {
    "Joined": "joining",
    "ReadOptions": "options",
    "Split": "parts",
    "TableLimits": "options",
    "Target": "target",
    "TrainingTable": "training_rows",
    "feature_names": "training_rows",
    "guard": "guards",
    "infer_task_kind": "target",
    "ingest": "ingestion",
    "input_tensors": "typed",
    "join_test_table": "joining",
    "open_table": "store",
    "profile": "profiling",
    "read_target": "target",
    "sealed_digest": "rowkeys",
    "split": "parts",
    "tensor_of": "typed",
    "training_table": "training_rows",
    "typed_columns": "typed",
    "with_kinds": "overrides",
    "write_table": "store",
}

__all__ = [
    "Joined",
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
    "join_test_table",
    "open_table",
    "profile",
    "read_target",
    "sealed_digest",
    "split",
    "tensor_of",
    "training_table",
    "typed_columns",
    "with_kinds",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'modelworks.data' has no attribute '{name}'")
    value = getattr(import_module(f"modelworks.data.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
