"""A step: a pure, versioned function of named, hashed inputs and plain parameters."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelworks.core.digest import digest_bytes, digest_json
from modelworks.core.errors import UsageError, close_matches
from modelworks.core.job import JobFunction, Resources

KEPT = "kept"
"""Name of the input of a step that keeps progress."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A registered step; calling it calls its function.

    Attributes:
        name: Unique name; part of the content key.
        version: Changes whenever results change; part of the content key.
        path: Import path ``package.module:function``.
        function: The function itself.
        outputs: Files the step must write into its folder; more are allowed.
        resources: Limits of one call, unless the call names its own.
        sources: Modules whose source counts as the step's own in ``source_digests``.
        keeps: It gets one more input, the folder ``KEPT``: what it writes there is found by its next attempt in the
            same run after a crash, and gone once it has ended.
    """

    name: str
    version: int
    path: str
    function: JobFunction = field(repr=False)
    outputs: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    sources: tuple[str, ...] = ()
    keeps: bool = False

    def __call__(self, inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
        return self.function(inputs, params, folder)

    def key(self, inputs: dict[str, str], params: dict[str, Any]) -> str:
        """Return the content key of a call: input name -> digest, and plain parameters.

        Raises:
            UsageError: The parameters are not plain JSON data.
        """
        try:
            return digest_json(
                {"step": self.name, "version": self.version, "inputs": inputs, "params": params}
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"The parameters of step '{self.name}' are not plain JSON data: {error}.", code="MW1360"
            ) from None


_REGISTRY: dict[str, Step] = {}


def step(
    *,
    version: int,
    name: str | None = None,
    outputs: tuple[str, ...] = (),
    resources: Resources | None = None,
    sources: tuple[str, ...] = (),
    keeps: bool = False,
) -> Callable[[JobFunction], Step]:
    """Register a module-level function ``(inputs, params, folder) -> plain JSON`` as a step.

    The function reads ``inputs`` (name -> file or folder, read-only), writes files into ``folder`` and must give the
    same result for the same inputs and parameters, whoever calls it and how often.

    Args:
        version: Changes whenever results change.
        name: Unique name; the function's own by default.
        outputs: Files it must write.
        resources: Limits of one call.
        sources: Modules (or packages) whose source counts as its own.
        keeps: It keeps progress in a folder; the result must not depend on what is found there.

    Raises:
        UsageError: The name is taken, or the function cannot be imported by a worker.
    """

    def register(function: JobFunction) -> Step:
        qualified = function.__qualname__
        if "<" in qualified:
            raise UsageError(f"The step {qualified} is not at the top level of its module.", code="MW1361")
        made = Step(
            name=name or function.__name__,
            version=version,
            path=f"{function.__module__}:{qualified}",
            function=function,
            outputs=outputs,
            resources=resources or Resources(),
            sources=sources,
            keeps=keeps,
        )
        taken = _REGISTRY.get(made.name)
        if taken is not None and taken.path != made.path:
            raise UsageError(
                f"Two steps are named '{made.name}': {taken.path} and {made.path}.", code="MW1362"
            )
        _REGISTRY[made.name] = made
        return made

    return register


def registered(name: str) -> Step:
    """Return the step of that name among the modules imported so far.

    Raises:
        UsageError: There is none; names close matches.
    """
    if name not in _REGISTRY:
        raise UsageError(f"There is no step '{name}'.{close_matches(name, _REGISTRY)}", code="MW1363")
    return _REGISTRY[name]


def source_digests(modules: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return step name -> ``{"version", "source"}`` for the steps defined in ``modules``.

    ``source`` is the SHA-256 of the syntax tree (so that comments, docstrings and layout do not count) of the step's
    module and of every module of its ``sources``.
    """
    names = set(modules)
    for module in names:
        importlib.import_module(module)
    return {
        item.name: {
            "version": item.version,
            "source": digest_json(
                [_module_digest(module) for module in _expand((item.path.split(":")[0], *item.sources))]
            ),
        }
        for item in sorted(_REGISTRY.values(), key=lambda item: item.name)
        if item.path.split(":")[0] in names
    }


def stale_versions(recorded: Path, modules: Iterable[str]) -> list[str]:
    """Return a sentence for each step whose source differs from the record while its version does not.

    Steps that are new or have a new version are written to ``recorded`` only by ``record_sources``.

    Args:
        recorded: JSON file of ``source_digests``.
        modules: Modules that define steps.
    """
    known = json.loads(recorded.read_text(encoding="utf-8")) if recorded.exists() else {}
    problems = []
    now = source_digests(modules)
    for name, entry in now.items():
        before = known.get(name)
        if before is None:
            problems.append(f"step '{name}' is not recorded in {recorded.name}")
        elif before["version"] == entry["version"] and before["source"] != entry["source"]:
            problems.append(f"step '{name}' changed its source and kept version {entry['version']}")
        elif before != entry:
            problems.append(f"step '{name}' has version {entry['version']}, recorded is {before['version']}")
    problems += [f"step '{name}' is recorded and does not exist" for name in known if name not in now]
    return problems


def record_sources(recorded: Path, modules: Iterable[str]) -> None:
    """Write ``source_digests`` to ``recorded``."""
    text = json.dumps(source_digests(modules), indent=2, sort_keys=True)
    recorded.write_text(text + "\n", encoding="utf-8")


def _expand(modules: Iterable[str]) -> list[str]:
    found: set[str] = set()
    for name in modules:
        module = importlib.import_module(name)
        found.add(name)
        for item in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
            found.add(item.name)
    return sorted(found)


def _module_digest(name: str) -> str:
    module = sys.modules.get(name) or importlib.import_module(name)
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return digest_bytes(ast.dump(tree).encode())
