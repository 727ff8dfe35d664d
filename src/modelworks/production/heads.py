"""The head tasks of a line, fitted in one pass over shared embeddings and written task by task as plain files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.budget import Budget
from modelworks.core.digest import digest_bytes
from modelworks.core.errors import ModelworksError
from modelworks.core.task import Task, TaskKind
from modelworks.production.embedding import load_backbone, load_embeddings, lots_of
from modelworks.production.encoders import named_backbones
from modelworks.production.fitting import class_shares, finite, timed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from modelworks.algorithms.samples.head import FittedHead
    from modelworks.core.backbone import Backbone
    from modelworks.core.schema import Schema
    from modelworks.data import Split, Target
    from modelworks.data.samples.parting import Lots
    from modelworks.data.samples.training import TrainingSamples

UNUSED, TRAINS, SEALED = 0, 1, 2


HANGING = 0.2
"""Share of training rows with a sibling (copy, group) from which leaving out one row says nothing."""


@dataclass(frozen=True, kw_only=True)
class _Parted:
    """One task with its rows parted; ``sealed`` names its sealed samples by what they hold."""

    task: Task
    kind: TaskKind
    reason: str
    target: Target
    split: Split
    findings: list[dict[str, Any]]
    sealed: str


def fit_line(
    table_folder: Path,
    embedded: Mapping[str, Path],
    reference: Path,
    tasks: Sequence[Task],
    payload: str,
    drawn: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Fit every task of a line, and its baselines.

    Args:
        table_folder: What ``ingest`` wrote.
        embedded: Backbone name -> what ``embed`` wrote for it.
        reference: What ``embed`` wrote for the reference of the modality.
        tasks: Head tasks over the table; they differ in target and kind only.
        payload: Column of the samples.
        drawn: See ``embedding.sample_part``.
        folder: Gets for task ``i``: ``head-i.onnx``, ``reference-i.onnx``, ``constant-i.onnx``, ``fit-i.json`` and
            ``rows-i.npy`` (int8 per row of the table: 0 unused, 1 trains, 2 sealed), ``folds-i.npy`` (int8 per training
            row, in the order of the table).

    Returns:
        ``tasks``: for each ``kind, test, rows, backbone, members``, or ``error``; ``parts``.
    """
    from modelworks.data import open_table
    from modelworks.data.samples.parting import sample_keys

    parts: dict[str, float] = {}
    with timed(parts, "part"):
        table, schema = open_table(table_folder)
        lots = lots_of(table_folder, table, schema, payload, drawn)
        keys = sample_keys(table_folder, table, payload)
        parted = [_part(table, schema, keys, task, payload, lots, shared=len(tasks) > 1) for task in tasks]
    with timed(parts, "fit"):
        plain = load_backbone(reference)
        places = {**embedded, plain.name: reference}
        backbones = {name: load_backbone(place) for name, place in places.items()}
        pool = _pool(table, parted)
        looks = {name: load_embeddings(place)[pool] for name, place in places.items()}
        training = _training(parted, pool, backbones, looks, payload)
        heads = _fit(training, parted, tasks[0], plain.name, named=_is_named(tasks[0], plain.name))
    with timed(parts, "write"):
        values = [
            _write(
                index,
                one,
                head,
                plain_head,
                training.get(index),
                payload,
                table,
                folder,
            )
            for index, (one, (head, plain_head)) in enumerate(zip(parted, heads, strict=True))
        ]
    return dict(finite({"tasks": values, "parts": parts}))


def _part(
    table: pa.Table,
    schema: Schema,
    keys: npt.NDArray[Any],
    task: Task,
    payload: str,
    lots: Lots,
    *,
    shared: bool,
) -> _Parted | ModelworksError:
    import numpy as np

    from modelworks.data import infer_task_kind, read_target
    from modelworks.data.samples.guarding import guard_samples
    from modelworks.data.samples.parting import part_samples

    try:
        kind, reason = task.kind, "set by the user"
        if kind is None:
            kind, reason = infer_task_kind(table, schema, task.target)
        target = read_target(table, schema, task.target, kind)
        split = part_samples(lots, target, task.split.test_share, task.seed, shared=shared)
        barred = {*task.targets, *task.exclude, payload, *([task.weight] if task.weight else [])}
        findings = guard_samples(table, schema, keys, target, split, barred)
    except ModelworksError as error:
        return error
    sealed = digest_bytes(np.sort(keys[split.test]).astype("<u8").tobytes())
    return _Parted(
        task=task, kind=kind, reason=reason, target=target, split=split, findings=findings, sealed=sealed
    )


def _pool(table: pa.Table, parted: Sequence[_Parted | ModelworksError]) -> npt.NDArray[np.int64]:
    """Return the rows that train for any task, ascending, and where labels are few some that no task has use for.

    A head may learn from samples without a label; those that are sealed for any task are never among them.
    """
    import numpy as np

    from modelworks.training.heads.selftraining import ASKED, MOST_A_CLASS

    trains, sealed, few = np.zeros(table.num_rows, bool), np.zeros(table.num_rows, bool), False
    for one in parted:
        if isinstance(one, _Parted):
            trains[one.split.train], sealed[one.split.test] = True, True
            few |= len(one.split.train) <= MOST_A_CLASS * len(one.target.classes)
    if few:
        spare = np.flatnonzero(~trains & ~sealed)
        trains[spare[:: max(1, -(-len(spare) // ASKED))]] = True
    return np.flatnonzero(trains)


def _training(
    parted: Sequence[_Parted | ModelworksError],
    pool: npt.NDArray[np.int64],
    backbones: dict[str, Backbone],
    embeddings: dict[str, npt.NDArray[np.float32]],
    payload: str,
) -> dict[int, TrainingSamples]:
    """Return the tasks over the rows of ``pool``; a row that does not train for a task has no label there."""
    import numpy as np

    from modelworks.data.samples.training import TrainingSamples

    found = {}
    nothing = np.empty(len(pool), object)
    for index, one in enumerate(parted):
        if not isinstance(one, _Parted):
            continue
        trains = np.zeros(len(one.target.present), bool)
        trains[one.split.train] = True
        folds = np.zeros(len(one.target.present), np.int8)
        folds[one.split.train] = one.split.folds
        values = one.target.values[pool].copy()
        values[~trains[pool]] = {"f": np.nan, "u": 255, "i": -1}[values.dtype.kind]
        found[index] = TrainingSamples(
            payload=nothing,
            column=payload,
            modality=one.task.modality,
            kind=one.kind,
            target=values,
            classes=one.target.classes,
            weight=None,
            folds=folds[pool],
            embeddings=embeddings,
            backbones=backbones,
            grouped=one.split.duplicates > HANGING * len(one.split.train),
        )
    return found


def _is_named(task: Task, reference: str) -> bool:
    """Say whether the task names backbones and the reference is not one of them.

    Else it is a candidate too: where the plain look says more, it is what should ship.
    """
    named = named_backbones(task.options)
    return bool(named) and reference not in named


def _fit(
    training: Mapping[int, TrainingSamples],
    parted: Sequence[_Parted | ModelworksError],
    task: Task,
    reference: str,
    *,
    named: bool,
) -> list[tuple[FittedHead | ModelworksError, FittedHead | ModelworksError]]:
    """Return the head of every task, and beside it the best one on the reference."""
    from modelworks.algorithms.plugins import estimator, recipe_for

    found: list[tuple[FittedHead | ModelworksError, FittedHead | ModelworksError]] = [
        (one, one) if isinstance(one, ModelworksError) else (ModelworksError("not fitted"),) * 2
        for one in parted
    ]
    if training:
        first = next(iter(training.values()))
        recipe = configured(estimator(recipe_for(first.modality, first.kind)), task)
        budget = Budget(task.limits.budget_s * len(training))
        made = recipe.fit_beside(list(training.values()), reference, named, budget, task.seed)
        for index, pair in zip(training, made, strict=True):
            found[index] = pair
    return found


def configured(recipe: Any, task: Task) -> Any:
    """Return a recipe's configuration: it is offered limits, metric, quantiles and options, and takes what it knows."""
    offered = {**task.options, "limits": task.limits, "metric": task.metric, "quantiles": task.quantiles}
    offered["positive"] = task.positive
    known = {item.name for item in fields(recipe)}
    return recipe(**{name: value for name, value in offered.items() if name in known})


def _write(
    index: int,
    one: _Parted | ModelworksError,
    head: FittedHead | ModelworksError,
    plain: FittedHead | ModelworksError,
    train: TrainingSamples | None,
    payload: str,
    table: pa.Table,
    folder: Path,
) -> dict[str, Any]:
    import numpy as np

    from modelworks.algorithms.plugins import estimator, recipe_for
    from modelworks.algorithms.samples.baselines import constant_head
    from modelworks.evaluation import default_metric

    if isinstance(one, ModelworksError) or isinstance(head, ModelworksError) or train is None:
        error = one if isinstance(one, ModelworksError) else head
        assert isinstance(error, ModelworksError)
        return {"error": error.to_json()}
    (folder / f"head-{index}.onnx").write_bytes(head.onnx)
    baselines: dict[str, Any] = {"constant": {}}
    (folder / f"constant-{index}.onnx").write_bytes(constant_head(train, head.backbone))
    if not isinstance(plain, ModelworksError) and plain.backbone != head.backbone:
        baselines["reference"] = {"backbone": plain.backbone, "oof_loss": plain.diagnostics.get("oof_loss")}
        (folder / f"reference-{index}.onnx").write_bytes(plain.onnx)
    rows = np.full(table.num_rows, UNUSED, np.int8)
    rows[one.split.train], rows[one.split.test] = TRAINS, SEALED
    np.save(folder / f"rows-{index}.npy", rows, allow_pickle=False)
    folds = one.split.folds[np.argsort(one.split.train)].astype(np.int8)
    np.save(folder / f"folds-{index}.npy", folds, allow_pickle=False)
    # Only labels are looked at: embeddings of thousands of rows would be copied for nothing.
    labelled = labelled_samples(replace(train, embeddings={}))
    recipe = estimator(recipe_for(train.modality, train.kind))().card
    record = {
        "kind": str(one.kind),
        "metric": one.task.metric or default_metric(one.kind, class_shares(labelled, one.task.positive)),
        "reason": one.reason,
        "features": [payload],
        "classes": list(one.target.classes),
        "split": {"method": one.split.method, "unlabelled": one.split.unlabelled},
        "findings": one.findings,
        "recipe": {"name": recipe.name, "version": recipe.version, "backbone": head.diagnostics["backbone"]},
        "model": {
            "signature": head.signature(train.backbones[head.backbone], payload).to_json(),
            "diagnostics": head.diagnostics,
        },
        "baselines": baselines,
        "backbone": head.backbone,
        "parts": {},
    }
    (folder / f"fit-{index}.json").write_text(json.dumps(finite(record)), encoding="utf-8")
    return {
        "kind": str(one.kind),
        "test": one.sealed,
        "rows": {"train": len(one.split.train), "test": len(one.split.test)},
        "backbone": head.backbone,
        "members": head.diagnostics.get("members", []),
        "baselines": list(baselines),
    }


def labelled_samples(train: TrainingSamples) -> TrainingSamples:
    """Return the rows that are labelled for the task (all rows of a task with several labels)."""
    import numpy as np

    if train.kind is TaskKind.MULTILABEL:
        return train
    known = np.isfinite(train.target) if train.kind is TaskKind.REGRESSION else train.target >= 0
    return train.take(np.flatnonzero(known))
