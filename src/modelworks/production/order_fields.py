"""The one definition of an order file: its fields, their meaning, and from them its JSON Schema."""

from __future__ import annotations

import json
from typing import Any, get_args

from modelworks.core.schema import ColumnKind
from modelworks.core.task import Modality, TaskKind
from modelworks.production.shapes import Flag, ListOf, MapOf, Number, Plain, Record, Shape, Text

NAME = Text(
    help="Letters, digits, '.', '_' and '-', at most 100.",
    pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
    example="churn-2026",
)
DURATION = r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)?\s*)+"
SPAN = Text(
    help="CPU time: 90 (seconds), 60s, 10m, 1h30m.",
    pattern=DURATION,
    example="60s, 10m or 1h30m",
)
MOMENT = Text(
    help="A date or a date and time, ISO 8601; UTC when no zone is given.",
    pattern=r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?",
    example="2026-12-01",
)
COLUMN = Text(help="A column name.")
BOUND = Text(
    help='A relation and a number, for example ">= 0.80".',
    pattern=r"\s*(?:>=|<=|>|<)\s*[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?\s*",
    example='">= 0.80"',
)

READING: dict[str, Shape] = {
    "delimiter": Text(help="Character between cells."),
    "encoding": Text(help="Text encoding, for example latin-1."),
    "decimal": Text(help="Decimal mark.", choices=(".", ",")),
    "header": Flag(help="Whether the first row holds the column names."),
    "sheet": Text(help="Sheet of an Excel file."),
    "max_rows": Number(help="Refuse a table with more rows.", low=1, whole=True),
    "max_columns": Number(help="Refuse a table with more columns.", low=1, whole=True),
    "max_bytes": Number(help="Refuse a larger source.", low=1, whole=True),
    "skip": ListOf(Text(), help="Files whose name holds one of these texts are no samples (masks, say)."),
    "series_values": ListOf(
        COLUMN, help="Columns with the values of series: moments of a wide table, channels of a long one."
    ),
    "series_key": Text(help="Column of a long table that says which series a row belongs to."),
    "series_time": Text(help="Column of a long table that orders the rows of a series."),
    "series_window": Number(
        help="Long table: so many rows up to each moment are a sample, with that moment's other columns.",
        low=2,
        high=100_000,
        whole=True,
    ),
    "series_stride": Number(
        help="Moments from one such window to the next; the last moment of a series always ends one.",
        low=1,
        high=100_000,
        whole=True,
    ),
}

SETTINGS: dict[str, Shape] = {
    "kind": Text(help="Kind of answer; the data decide when it is left out.", choices=tuple(TaskKind)),
    "modality": Text(
        help="What the samples are; the data decide when it is left out.", choices=get_args(Modality)
    ),
    "files": Text(help="Folder or zip file with the images that a column of data names."),
    "file_column": Text(help="That column, when more than one names image files."),
    "options": MapOf(
        Plain(),
        help="Settings of the recipe: backbone, payload, escalate, network, window, horizon, ...",
    ),
    "metric": Text(help="Metric to choose and judge by; the usual one for the kind when left out."),
    "gate": MapOf(BOUND, help='Conditions of release, for example {roc_auc: ">= 0.80"}.'),
    "slices": ListOf(COLUMN, help="Columns by whose values quality is shown and gated."),
    "split": Record(
        {
            "kind": Text(
                help="How rows are parted; auto takes group or time when they are named.",
                choices=("auto", "random", "group", "time"),
            ),
            "group": Text(help="Column whose values must not be on both sides."),
            "time": Text(help="Column whose later values are the test part."),
            "test_share": Number(help="Share of rows that is sealed.", low=0, open_low=True, high=0.5),
            "test_data": Text(help="A ready-made test table instead of a share."),
        },
        help="How training rows and the sealed test rows are parted.",
    ),
    "limits": Record(
        {
            "latency_ms": Number(help="One row in ONNX Runtime, 99th percentile, ms.", low=0, open_low=True),
            "size_mb": Number(help="Size of model.onnx in MB.", low=0, open_low=True),
            "memory_mb": Number(help="Peak memory of any one job, MB.", low=256, whole=True),
        },
        help="What the shipped model and its making may cost.",
    ),
    "budget": Text(help="CPU time for fitting: 60s, 10m, 1h.", pattern=DURATION, example="60s or 10m"),
    "priority": Number(help="Higher is made first; 0 when left out.", whole=True, low=-1000, high=1000),
    "due": MOMENT,
    "weight": Text(help="Column of row weights; not read by the model."),
    "positive": Text(help="Class that counts as positive in a binary task."),
    "quantiles": ListOf(
        Number(low=0, high=1, open_low=True), help="Quantile levels of interval outputs for regression."
    ),
    "exclude": ListOf(COLUMN, help="Columns the model may not read."),
    "kinds": MapOf(Text(choices=tuple(ColumnKind)), help="Column kinds you set, like {zip: category}."),
    "query": Text(help="SQL to run when data is a connection URL."),
    "reading": Record(READING, help="How the source is read, when it is not found by itself."),
    "seed": Number(help="Seed of every random choice.", whole=True, low=0, high=2**31 - 1),
    "explain": Flag(help="Whether importance is computed for the report."),
    "deploy": Flag(help="Whether the model is served under its name once it is released."),
}

TASK = Record(
    {
        "name": NAME,
        "data": Text(help="File, folder, glob or URL; a path is relative to the order file."),
        "target": ListOf(
            COLUMN, lone=True, least=1, help="Column to predict; a list is one multi-label task."
        ),
        "targets": ListOf(
            COLUMN, lone=True, least=1, help='A list or "*": one task per target; work is shared.'
        ),
        **SETTINGS,
    },
    required=("data",),
    one_of=("target", "targets"),
    help="One line of the order: what to predict, from what.",
)

PRICES: dict[str, Shape] = {
    "currency": Text(help="Name of the money unit, for example EUR."),
    "cpu_hour": Number(help="Price of one CPU-hour.", low=0),
    "gpu_hour": Number(help="Price of one GPU-hour.", low=0),
    "kwh": Number(help="Price of one kilowatt-hour.", low=0),
    "human_hour": Number(help="Price of one hour of a person.", low=0),
}

ORDER = Record(
    {
        "name": NAME,
        "defaults": Record(SETTINGS, help="Settings of every task that does not set its own."),
        "tasks": ListOf(TASK, least=1, help="The lines of the order."),
        "prices": Record(PRICES, help="What the ledger charges, instead of this machine's."),
        "budget": Text(
            help="CPU time of the whole order; tasks left when it is used up fail and can be resumed.",
            pattern=DURATION,
            example="10m or 2h",
        ),
    },
    required=("tasks",),
    help="An order: a list of tasks with priorities, budgets and due dates.",
)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of an order file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "modelworks:order-1",
        "title": "Modelworks order",
        **ORDER.describe(),
    }


def json_schema_text() -> str:
    """Return the published text of the schema, as ``order.schema.json`` holds it."""
    return json.dumps(json_schema(), indent=2) + "\n"
