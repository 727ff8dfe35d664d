"""Encoders that a task names by folder: told apart by what they hold, and never by where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelworks.algorithms.backbones.huggingface import (
    alias_of,
    check_encoder,
    encoder_files,
    find_encoder,
    folder_of,
    is_encoder,
)
from modelworks.algorithms.plugins import backbone_source
from modelworks.core.backbone import BackboneCard
from modelworks.core.errors import TaskError
from modelworks.core.task import Task
from modelworks.production.order import Line
from modelworks.workflow.call import Input

_INPUT = "encoder."


def named_backbones(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the backbones that options name under ``backbone``, as they are named there."""
    named = options.get("backbone")
    if named is None:
        return ()
    return tuple(str(name) for name in named) if isinstance(named, list) else (str(named),)


def without_paths(task: Task) -> Task:
    """Return a task that names its encoders as packages and step keys may: without folders.

    Raises:
        TaskError: Two folders have one name.
    """
    named = named_backbones(task.options)
    given = {name: alias_of(name) for name in named if is_encoder(name)}
    if not given:
        return task
    if len(set(given.values())) < len(given):
        raise TaskError(
            f"'{task.name}' names two encoders whose folders have one name.",
            code="MW1253",
            hint="rename one of the folders",
        )
    options = {**task.options, "backbone": [given.get(name, name) for name in named]}
    if settings := task.options.get("backbone_settings"):
        options["backbone_settings"] = {given.get(name, name): value for name, value in settings.items()}
    return replace(task, options=options)


def encoder_of(line: Line, backbone: str) -> str:
    """Return how a line names an encoder; empty where the backbone is not one."""
    named = named_backbones(line.settings.get("options") or {})
    return next((name for name in named if is_encoder(name) and alias_of(name) == backbone), "")


def card_of(line: Line, backbone: str, task: Task) -> BackboneCard:
    """Return the card of a backbone; of an encoder, which must be there, what a forecast reads: it learns nothing.

    Raises:
        DataError: It is not on this disk.
        TaskError: It reads other samples.
    """
    name = encoder_of(line, backbone)
    if not name:
        card: BackboneCard = backbone_source(backbone)().card
        return card
    cost_ms = check_encoder(name, task.modality)
    return BackboneCard(name=backbone, modality=task.modality, summary="", source="", cost_ms=cost_ms)


def encoder_inputs(line: Line, backbone: str) -> dict[str, Input]:
    """Return the files of an encoder as inputs of a step: what they hold is part of its key.

    Raises:
        DataError: They are not on this disk.
    """
    name = encoder_of(line, backbone)
    files = encoder_files(find_encoder(name)) if name else {}
    return {_INPUT + file: path for file, path in files.items()}


def encoder_folder(inputs: Mapping[str, Path]) -> Path | None:
    """Return the folder of the encoder among the inputs of a step."""
    files = [path for name, path in inputs.items() if name.startswith(_INPUT)]
    return folder_of(files) if files else None
