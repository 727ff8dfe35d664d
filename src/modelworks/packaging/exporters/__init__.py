"""Writing a package in the form another system reads: one file per system, each a function to named bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from modelworks.core.errors import Conflict, UsageError, close_matches
from modelworks.packaging.archive import write_archive
from modelworks.packaging.exporters.docker import docker_files
from modelworks.packaging.exporters.mlflow import mlflow_files
from modelworks.packaging.exporters.predict import predict_files
from modelworks.packaging.exporters.triton import triton_files, triton_python_files
from modelworks.packaging.package import Package
from modelworks.packaging.publishing import publish

EXPORTERS: dict[str, Callable[[Package], Mapping[str, bytes]]] = {
    "triton": triton_files,
    "triton-python": triton_python_files,
    "mlflow": mlflow_files,
    "docker": docker_files,
    "predict": predict_files,
}
KINDS = (*EXPORTERS, "mwpkg")


def export(package: Package, kind: str, target: Path) -> Path:
    """Write ``package`` as a folder in one of the forms of ``EXPORTERS``, or as one ``mwpkg`` file.

    Args:
        package: An opened package.
        kind: The form.
        target: Folder (or file) to write; must not exist.

    Returns:
        What was written.

    Raises:
        UsageError: There is no such form.
        Conflict: ``target`` exists.
    """
    if kind == "mwpkg":
        return pack(package, target)
    if kind not in EXPORTERS:
        raise UsageError(
            f"There is no export form '{kind}'.{close_matches(kind, KINDS)}",
            code="MW1340",
            hint="forms: " + ", ".join(KINDS),
        )
    publish(target, EXPORTERS[kind](package))
    return target


def pack(package: Package, target: Path) -> Path:
    """Write ``package`` as one ``.mwpkg`` file; equal packages give equal bytes.

    Raises:
        Conflict: ``target`` exists.
    """
    data = write_archive(package.files)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise Conflict(
                f"There is something at {target.name} already.",
                where=str(target),
                hint="choose another --out",
            ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def unpack(package: Package, folder: Path) -> Path:
    """Write an opened package, from an archive or not, as a folder.

    Raises:
        Conflict: ``folder`` exists.
    """
    publish(folder, package.files)
    return folder
