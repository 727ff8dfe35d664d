"""Calls a job's function and turns every end it can come to into plain data."""

from __future__ import annotations

import errno
import importlib
import json
import traceback
from pathlib import Path
from typing import Any

from modelworks.core.digest import canonical_json
from modelworks.core.errors import DiskFull, ExecutionError, ModelworksError, OutOfMemory, UsageError
from modelworks.core.job import JobFunction


def resolve(path: str) -> JobFunction:
    """Return the function of an import path ``package.module:function``.

    Raises:
        UsageError: There is no such module or function.
    """
    module_name, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"The job function '{path}' cannot be imported: {error}.", code="MW1370") from None
    if not name or not callable(found):
        raise UsageError(f"'{path}' is no function.", code="MW1371")
    function: JobFunction = found
    return function


def invoke(
    path: str, inputs: dict[str, Path], params: dict[str, Any], folder: Path
) -> tuple[Any, dict[str, Any] | None]:
    """Call a job function; returns ``(value, None)`` or ``(None, error)``, both plain JSON data.

    The error is ``ModelworksError.to_json()`` with the trace added under ``trace``. What is no error of ours becomes
    one: memory that cannot be had is ``OutOfMemory``, a full disk is ``DiskFull``, the rest ``ExecutionError``.
    """
    try:
        value = resolve(path)(inputs, params, folder)
        return plain(value, path), None
    except ModelworksError as error:
        return None, error.to_json() | {"trace": traceback.format_exc()}
    except MemoryError:
        wrong: ModelworksError = OutOfMemory(
            f"{path} asked for more memory than its limit allows.", code="MW5101"
        )
        return None, wrong.to_json() | {"trace": traceback.format_exc()}
    except Exception as error:
        return None, translate(error, path).to_json() | {"trace": traceback.format_exc()}


def plain(value: Any, path: str) -> Any:
    """Return ``value`` as it reads back from JSON, so that every executor gives the same.

    Raises:
        ExecutionError: It is not plain JSON data.
    """
    try:
        return json.loads(canonical_json(value))
    except (TypeError, ValueError) as error:
        raise ExecutionError(
            f"{path} returned a value that is not plain JSON data: {error}.", code="MW5002"
        ) from None


def translate(error: Exception, path: str) -> ModelworksError:
    """Return our error for an exception that a job function raised."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"The disk is full: {path} could not write {error.filename or 'its files'}.",
            code="MW4101",
            hint="free some space (mw gc removes what nothing names), then run the same command again",
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return ExecutionError(
        f"{path} failed with {type(error).__name__}: {error}",
        code="MW5001",
        where=f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}",
    )
