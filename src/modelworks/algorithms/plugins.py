"""The estimators that can be used: the built-in ones and those that other packages register."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from modelworks.core.errors import MissingExtra, UsageError, close_matches

GROUP = "modelworks.estimators"
_BUILT_IN = {"tables.portfolio": ("modelworks.algorithms.tables.recipe", "TableRecipe", "")}


@dataclass(frozen=True)
class Registered:
    """An estimator that is known by name and loaded on first use.

    Attributes:
        name: Registry name.
        origin: ``modelworks`` or the distribution that registered it.
        load: Returns the estimator class (its frozen configuration dataclass).
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
    found = {
        name: Registered(name, "modelworks", _loader(name, module, attribute, extra))
        for name, (module, attribute, extra) in _BUILT_IN.items()
    }
    for entry in entry_points(group=GROUP):
        origin = entry.dist.name if entry.dist is not None else "unknown"
        if entry.name in found:
            raise UsageError(
                f"The estimator '{entry.name}' of '{origin}' is already registered by "
                f"'{found[entry.name].origin}'.",
                code="MW1310",
                hint=f"pip uninstall {origin}",
            )
        extra = entry.extras[0] if entry.extras else ""
        found[entry.name] = Registered(
            entry.name, origin, _loader(entry.name, entry.module, entry.attr, extra)
        )
    return found


def estimator(name: str) -> Any:
    """Return the estimator class registered under ``name``.

    Raises:
        UsageError: There is no such estimator.
        MissingExtra: A package it needs is not installed.
    """
    known = registry()
    if name not in known:
        raise UsageError(
            f"There is no estimator '{name}'.{close_matches(name, known)}",
            code="MW1311",
            hint="estimators: " + ", ".join(sorted(known)),
        )
    return known[name].load()


def _loader(name: str, module: str, attribute: str, extra: str) -> Callable[[], Any]:
    def load() -> Any:
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if extra:
                raise MissingExtra.named(f"The estimator '{name}'", extra) from error
            raise MissingExtra(
                f"The estimator '{name}' needs the package '{error.name}'.",
                hint=f"pip install {error.name}",
            ) from error

    return load
