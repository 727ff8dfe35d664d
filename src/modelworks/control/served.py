"""Which packages a server of this installation answers from: names and paths to folders on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelworks.control.workspace import Workspace
from modelworks.core.errors import NotFound, close_matches


def packages_to_serve(workspace: Workspace, models: Sequence[str]) -> list[Path]:
    """Return the packages of a start.

    Args:
        workspace: The installation.
        models: What was asked for. When empty: the newest version of every released model that was never served;
            what ever was stays as it was last recorded, removed endpoints included.

    Raises:
        NotFound: There is no such model, or nothing to serve.
    """
    if models:
        return [package_place(workspace, name) for name in models]
    from modelworks.production.release import SPACE
    from modelworks.serving.journal import Journal

    path = workspace.home / "serving" / "deployments.jsonl"
    acted = {act.endpoint for act in Journal(path).history()} if path.exists() else set()
    newest = workspace.catalog.names.newest(SPACE)
    if not newest and not acted:
        raise NotFound(
            "Nothing was released here yet.", code="MW4220", hint="mw produce TABLE --target COLUMN"
        )
    folders = [workspace.models / item.name / f"v{item.version}" for item in newest if item.name not in acted]
    return [folder for folder in folders if folder.is_dir()]


def package_place(workspace: Workspace, name: str) -> Path:
    """Return the folder or file of a package: a path, or the name of a released model (``name@2`` for a version).

    Raises:
        NotFound: There is none; names close matches.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path.resolve()
    from modelworks.production.release import SPACE

    stem, _, version = name.partition("@")
    models = {item.name: item for item in workspace.catalog.names.newest(SPACE)}
    if stem not in models:
        raise NotFound(
            f"There is no package or model '{name}'.{close_matches(stem, models)}",
            code="MW4211",
            hint="mw model list",
        )
    folder = workspace.models / stem / f"v{version or models[stem].version}"
    if not folder.is_dir():
        raise NotFound(
            f"Model '{stem}' has no released version {version}; the newest is {models[stem].version}.",
            code="MW4221",
            hint="mw model list",
        )
    return folder
