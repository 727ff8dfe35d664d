"""Care of what is served: the doctor's look at the journal and its packages, the sweep of staged ones."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from modelworks.control.workspace import Workspace
from modelworks.core.errors import ModelworksError

YOUNG_S = 3600.0
Note = tuple[str, str, str]


def look_at_serving(workspace: Workspace, *, strict: bool) -> list[Note]:
    """Return ``(status, detail, next command)`` of every finding about endpoints.

    Args:
        workspace: The installation.
        strict: Also verify every byte of the packages in use.

    Raises:
        StorageError: The deployment journal is damaged.
    """
    from modelworks.packaging.package import TrustPolicy, open_package
    from modelworks.serving.journal import Journal
    from modelworks.serving.proofs import Proofs

    state = workspace.home / "serving"
    path = state / "deployments.jsonl"
    if not path.exists():
        return [("ok", "nothing was ever served", "")]
    journal = Journal(path)
    proofs, trust = Proofs(state / "proofs"), TrustPolicy.of_folder(workspace.keys)
    found: list[Note] = []
    for endpoint in journal.endpoints.values():
        for number in endpoint.in_use:
            version = endpoint.version(number)
            named = f"version {number} of endpoint '{endpoint.name}'"
            proof = proofs.of(version.digest)
            if proof is not None and proof.outcome == "quarantined":
                fix = f"mw endpoint rollback {endpoint.name}, or mw endpoint load {endpoint.name} to prove it again"
                found.append(("warning", f"{named} is quarantined: {proof.cause}", fix))
            elif not Path(version.place).exists():
                found.append(("error", f"the package of {named} is gone", f"mw deploy {endpoint.name}"))
            elif strict:
                try:
                    open_package(Path(version.place), trust)
                except ModelworksError as error:
                    found.append(("error", f"{named}: {error.message}", f"mw deploy {endpoint.name}"))
    count = len(journal.endpoints)
    return found or [("ok", f"{count} endpoints from {journal.count} acts whose chain holds", "")]


def sweep_staged(workspace: Workspace, *, dry_run: bool) -> tuple[int, int]:
    """Remove staged packages that no endpoint names and no deployment under way can want; returns number and bytes."""
    from modelworks.serving.journal import Journal

    state = workspace.home / "serving"
    folder, path = state / "packages", state / "deployments.jsonl"
    if not folder.is_dir():
        return 0, 0
    endpoints = Journal(path).endpoints.values() if path.exists() else ()
    named = {version.digest for endpoint in endpoints for version in endpoint.versions}
    count = size = 0
    for staged in folder.iterdir():
        if staged.name in named or time.time() - staged.stat().st_mtime < YOUNG_S:
            continue
        count += 1
        size += sum(file.stat().st_size for file in staged.iterdir())
        if not dry_run:
            shutil.rmtree(staged)
    return count, size
