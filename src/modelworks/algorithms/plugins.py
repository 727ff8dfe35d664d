"""Estimators and backbones that can be used: the built-in ones and those that other packages register."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from modelworks.core.errors import MissingExtra, TaskError, UsageError, close_matches
from modelworks.core.task import Modality, TaskKind

GROUP = "modelworks.estimators"
BACKBONES = "modelworks.backbones"
_BUILT_IN = {
    "tables.portfolio": ("modelworks.algorithms.tables.recipe", "TableRecipe", ""),
    "samples.heads": ("modelworks.algorithms.samples.recipe", "SampleHeads", ""),
    "series.anomaly": ("modelworks.algorithms.series.anomaly", "AnomalyRecipe", ""),
    "series.forecast": ("modelworks.algorithms.series.forecast", "ForecastRecipe", ""),
    "images.anomaly": ("modelworks.algorithms.images.anomaly", "ImageAnomaly", "image"),
    "text.linear": ("modelworks.algorithms.text.linear", "TextLinear", "text"),
    "deep.images": ("modelworks.algorithms.deep.images", "DeepImages", "image"),
    "deep.text": ("modelworks.algorithms.deep.text", "DeepText", ""),
    "deep.series": ("modelworks.algorithms.deep.series", "DeepSeries", ""),
}
_BUILT_IN_BACKBONES = {
    "images.patches": ("modelworks.algorithms.backbones.sources", "PatchSource", "image"),
    "images.formula": ("modelworks.algorithms.backbones.formula", "FormulaSource", "image"),
    "images.pixels": ("modelworks.algorithms.backbones.reference", "PixelSource", "image"),
    "text.ngrams": ("modelworks.algorithms.backbones.sources", "NgramSource", ""),
    "text.minilm": ("modelworks.algorithms.backbones.minilm", "MinilmSource", "minilm"),
    "text.shape": ("modelworks.algorithms.backbones.reference", "TextShapeSource", ""),
    "series.kernels": ("modelworks.algorithms.backbones.sources", "KernelSource", ""),
    "series.levels": ("modelworks.algorithms.backbones.levels", "LevelSource", ""),
    "series.spectra": ("modelworks.algorithms.backbones.spectra", "SpectraSource", ""),
    "series.moments": ("modelworks.algorithms.backbones.reference", "SeriesMomentSource", ""),
}
_HEADS = "samples.heads"
_RECIPES: dict[tuple[str, str], str] = {
    **{("table", kind): "tables.portfolio" for kind in TaskKind if kind not in {"anomaly", "forecast"}},
    ("image", TaskKind.ANOMALY): "images.anomaly",
    **{
        (modality, kind): _HEADS
        for modality in ("image", "text", "series")
        for kind in (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL, TaskKind.REGRESSION)
    },
    ("series", TaskKind.ANOMALY): "series.anomaly",
    ("series", TaskKind.FORECAST): "series.forecast",
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "image": ("images.formula", "images.patches"),
    "text": ("text.ngrams",),
    "series": ("series.kernels", "series.levels"),
}
_FOR_SIGNALS = ("series.spectra",)
LONG_SIGNAL, FEW_CHANNELS = 1000, 3
"""From so many values, in at most so many channels, series are signals that may be told apart by their spectra."""

REFERENCES: Mapping[str, str] = {
    "image": "images.pixels",
    "text": "text.shape",
    "series": "series.moments",
}
"""The plainest look at a sample, per modality: what a model on a backbone must beat."""


@dataclass(frozen=True)
class Registered:
    """A part that is known by name and loaded on first use.

    Attributes:
        name: Registry name.
        origin: ``modelworks`` or the distribution that registered it.
        load: Returns its class (its frozen configuration dataclass).
    """

    name: str
    origin: str
    load: Callable[[], Any]


def registry() -> Mapping[str, Registered]:
    """Return every known estimator by name; nothing is imported until ``load()``.

    A plug-in registers itself under the entry point group ``modelworks.estimators``; its name must not be
    a built-in one.

    Raises:
        UsageError: Two packages register the same name.
    """
    return _registered("estimator", GROUP, _BUILT_IN)


def backbones() -> Mapping[str, Registered]:
    """Return every known backbone source by name; plug-ins register under ``modelworks.backbones``.

    Raises:
        UsageError: Two packages register the same name.
    """
    return _registered("backbone", BACKBONES, _BUILT_IN_BACKBONES)


def _registered(what: str, group: str, built_in: Mapping[str, tuple[str, str, str]]) -> dict[str, Registered]:
    found = {
        name: Registered(name, "modelworks", _loader(what, name, module, attribute, extra))
        for name, (module, attribute, extra) in built_in.items()
    }
    for entry in entry_points(group=group):
        origin = entry.dist.name if entry.dist is not None else "unknown"
        if entry.name in found:
            raise UsageError(
                f"The {what} '{entry.name}' of '{origin}' is already registered by '{found[entry.name].origin}'.",
                code="MW1325",
                hint=f"pip uninstall {origin}",
            )
        extra = entry.extras[0] if entry.extras else ""
        found[entry.name] = Registered(
            entry.name, origin, _loader(what, entry.name, entry.module, entry.attr, extra)
        )
    return found


def estimator(name: str) -> Any:
    """Return the estimator class registered under ``name``.

    Raises:
        UsageError: There is no such estimator.
        MissingExtra: A package it needs is not installed.
    """
    return _found("estimator", name, registry()).load()


def backbone_source(name: str) -> Any:
    """Return the backbone source class registered under ``name``.

    Raises:
        UsageError: There is no such backbone.
        MissingExtra: A package it needs is not installed.
    """
    return _found("backbone", name, backbones()).load()


def _found(what: str, name: str, known: Mapping[str, Registered]) -> Registered:
    if name not in known:
        raise UsageError(
            f"There is no {what} '{name}'.{close_matches(name, known)}",
            code="MW1326",
            hint=f"{what}s: " + ", ".join(sorted(known)),
        )
    return known[name]


def recipe_for(modality: Modality, kind: TaskKind) -> str:
    """Return the name of the estimator that makes models of ``kind`` from samples of ``modality``.

    Raises:
        TaskError: There is none.
    """
    if (modality, kind) not in _RECIPES:
        known = sorted({kind for one, kind in _RECIPES if one == modality})
        raise TaskError(
            f"There is no recipe for {kind} tasks on {modality} data.",
            code="MW1230",
            hint=f"kinds for {modality} data: " + ", ".join(known),
        )
    return _RECIPES[modality, kind]


def stacked(recipe: str) -> bool:
    """Say whether all tasks of a recipe over one backbone are fitted in one pass."""
    return recipe == _HEADS


def backbone_choices(modality: Modality, values: int = 0, channels: int = 1) -> tuple[str, ...]:
    """Return the backbones that are compared for a task when none is named.

    Args:
        modality: What the samples are.
        values: Series: values of the longest.
        channels: Series: their channels.
    """
    long = modality == "series" and values >= LONG_SIGNAL and channels <= FEW_CHANNELS
    return _CHOICES[modality] + (_FOR_SIGNALS if long else ())


def _loader(what: str, name: str, module: str, attribute: str, extra: str) -> Callable[[], Any]:
    def load() -> Any:
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if extra:
                raise MissingExtra.named(f"The {what} '{name}'", extra) from error
            raise MissingExtra(
                f"The {what} '{name}' needs the package '{error.name}'.",
                hint=f"pip install {error.name}",
            ) from error

    return load
