"""Care of an installation: the doctor's checks, the sweep, and everything as plain files."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.control.serving_care import look_at_serving, sweep_staged
from modelworks.control.workspace import Workspace
from modelworks.core.errors import Conflict, ModelworksError
from modelworks.workflow.journal import sweep_dead_runs

if TYPE_CHECKING:
    from modelworks.storage.store import Store

LEAST_FREE_MB = 500


class Doctor:
    """Looks an installation over.

    Args:
        workspace: The installation.
        strict: Read every byte.
        repair: Remove what is damaged, so that the next run makes it again, and close runs whose process died.
    """

    def __init__(self, workspace: Workspace, *, strict: bool = False, repair: bool = False) -> None:
        self._workspace = workspace
        self._strict = strict
        self._repair = repair
        self._found: list[dict[str, str]] = []

    def look(self) -> dict[str, Any]:
        """Return ``{ok, checks: [{check, status, detail, fix}]}``; in ``strict`` a warning is not ok."""
        for name, check in (
            ("disk", self._disk),
            ("catalog", self._catalog),
            ("runs", self._runs),
            ("artifacts", self._artifacts),
            ("models", self._models),
            ("serving", self._serving),
            ("keys", self._keys),
            ("libraries", self._libraries),
        ):
            try:
                check(name)
            except ModelworksError as error:
                self._note(name, "error", error.message, error.hint or "")
        bad = {"error", "warning"} if self._strict else {"error"}
        return {
            "ok": not any(item["status"] in bad for item in self._found),
            "home": str(self._workspace.home),
            "settings": self._workspace.settings.to_json(),
            "checks": self._found,
        }

    def _note(self, check: str, status: str, detail: str, fix: str = "") -> None:
        self._found.append({"check": check, "status": status, "detail": detail, "fix": fix})

    def _disk(self, name: str) -> None:
        _ = self._workspace.store
        free = shutil.disk_usage(self._workspace.home).free / 1e6
        status = "ok" if free > LEAST_FREE_MB else "warning"
        self._note(
            name, status, f"{free:,.0f} MB free at {self._workspace.home}", "" if status == "ok" else "mw gc"
        )

    def _catalog(self, name: str) -> None:
        catalog = self._workspace.catalog
        counts = catalog.ledger.counts()
        text = ", ".join(f"{count:,} {table}" for table, count in counts.items())
        self._note(name, "ok", f"opens and answers: {text}")
        if catalog.backup is not None:
            self._note(name, "ok", f"it was migrated; the copy from before is {catalog.backup}")

    def _runs(self, name: str) -> None:
        catalog = self._workspace.catalog
        swept = sweep_dead_runs(self._workspace.store, catalog)
        stopped = [run for run in catalog.runs.find() if run.status == "interrupted"]
        for run in stopped:
            self._note(
                name,
                "warning" if run.id in swept else "ok",
                f"'{run.id}' was stopped before its end",
                f"mw order resume {run.id}",
            )
        if not stopped:
            self._note(name, "ok", "no run was left unfinished")

    def _artifacts(self, name: str) -> None:
        store, catalog = self._workspace.store, self._workspace.catalog
        damaged, missing = [], []
        for digest in sorted(store.expand(catalog.live_digests())):
            try:
                if not store.has(digest):
                    missing.append(digest)
                elif self._strict:
                    store.verify(digest)
            except ModelworksError:
                damaged.append(digest)
        for digest in damaged:
            if self._repair:
                store.discard(digest)
            self._note(
                name,
                "warning" if self._repair else "error",
                f"{digest[:12]} does not match its digest" + ("; removed" if self._repair else ""),
                "run its order again: the step that made it runs again"
                if self._repair
                else "mw doctor --repair",
            )
        if missing:
            self._note(
                name,
                "warning",
                f"{len(missing)} recorded artifacts are not there",
                "run their orders again to make them",
            )
        if not damaged and not missing:
            depth = "every byte" if self._strict else "present (mw doctor --strict reads every byte)"
            self._note(name, "ok", f"all artifacts that something names: {depth}")

    def _serving(self, name: str) -> None:
        for status, detail, fix in look_at_serving(self._workspace, strict=self._strict):
            self._note(name, status, detail, fix)

    def _models(self, name: str) -> None:
        from modelworks.control.asking import open_named
        from modelworks.production.release import SPACE

        models = self._workspace.catalog.names.newest(SPACE)
        for item in models:
            try:
                open_named(self._workspace, item.name)
            except ModelworksError as error:
                self._note(name, "error", f"model '{item.name}': {error.message}", error.hint or "")
                continue
            link = self._workspace.models / item.name / "current"
            if not link.exists() or link.resolve().name != f"v{item.version}":
                self._note(
                    name,
                    "warning",
                    f"model '{item.name}': its folder is not at v{item.version}",
                    "mw order list",
                )
        self._note(name, "ok", f"{len(models)} released models looked at")

    def _keys(self, name: str) -> None:
        from modelworks.packaging import SigningKey

        key = SigningKey.load_or_create(self._workspace.keys)
        self._note(name, "ok", f"packages are signed by {key.id}")

    def _libraries(self, name: str) -> None:
        from importlib.metadata import version

        names = ("numpy", "pyarrow", "scipy", "lightgbm", "onnx", "onnxruntime", "sqlalchemy")
        self._note(name, "ok", ", ".join(f"{item} {version(item)}" for item in names))


def collect_garbage(workspace: Workspace, *, dry_run: bool, cache: bool) -> dict[str, Any]:
    """Sweep what nothing names; with ``cache`` also forget finished steps, so that only released models stay.

    Returns:
        ``blobs, bytes, staging, trees, packages, message``.
    """
    from modelworks.storage.sweep import sweep

    catalog, store = workspace.catalog, workspace.store
    sweep_dead_runs(store, catalog)
    if cache and not dry_run:
        catalog.ledger.forget([result.key for result in catalog.ledger.all_results()])
    packages, package_bytes = sweep_staged(workspace, dry_run=dry_run)
    staged = f"; {packages} deployed packages that no endpoint names" if packages else ""
    live = _named(workspace) if cache else catalog.live_digests()
    if dry_run:
        kept = store.expand(live)
        doomed = [digest for digest in store.digests() if digest not in kept]
        size = package_bytes + sum(store.path(digest).stat().st_size for digest in doomed)
        text = (
            f"would remove {len(doomed)} artifacts, {size / 1e6:.1f} MB (younger than an hour stays){staged}"
        )
        return {
            "blobs": len(doomed), "bytes": size, "staging": 0, "trees": 0, "packages": packages, "message": text,
        }  # fmt: skip
    swept = sweep(store, live)
    text = (
        f"removed {swept.blobs} artifacts ({swept.size / 1e6:.1f} MB), {swept.trees} folders of links "
        f"and {swept.staging} unfinished pieces of dead processes{staged}"
    )
    return {
        "blobs": swept.blobs,
        "bytes": swept.size + package_bytes,
        "staging": swept.staging,
        "trees": swept.trees,
        "packages": packages,
        "message": text,
    }


def _named(workspace: Workspace) -> set[str]:
    catalog = workspace.catalog
    trees = {
        str(value["tree"]) for value in catalog.names.values() if isinstance(value, dict) and "tree" in value
    }
    return trees | {package.digest for package in catalog.packages.find()}


def export_everything(workspace: Workspace, folder: Path) -> dict[str, Any]:
    """Write everything that was made as plain files below ``folder``.

    Returns:
        ``models, orders, attempts, lessons, message``.

    Raises:
        Conflict: The folder is not empty.
    """
    folder = folder.expanduser().resolve()
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"The folder {folder} is not empty.", code="MW4311", hint="give an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    catalog, store = workspace.catalog, workspace.store
    models = 0
    for item in catalog.names.newest("model"):
        for version in catalog.names.history("model", item.name):
            tree = version.value["tree"]
            if store.has(tree):
                _copy_package(store, tree, folder / "models" / item.name / f"v{version.version}")
                models += 1
    if workspace.orders.is_dir():
        shutil.copytree(workspace.orders, folder / "orders", copy_function=shutil.copyfile)
    runs = catalog.runs.find()
    _write_lines(folder / "runs.jsonl", [asdict(run) for run in runs])
    attempts = catalog.ledger.attempts()
    _write_lines(folder / "ledger.jsonl", [asdict(attempt) for attempt in attempts])
    uses = [
        {"run": run.id, "key": key, "label": label}
        for run in runs
        for key, label in catalog.ledger.uses(run.id)
    ]
    _write_lines(folder / "uses.jsonl", uses)
    _write_lines(folder / "human_seconds.jsonl", [asdict(item) for item in catalog.ledger.human()])
    steps = [asdict(result) for result in catalog.ledger.all_results()]
    _write_lines(folder / "steps.jsonl", steps)
    lessons = catalog.memory.recall("lessons")
    _write_lines(folder / "lessons.jsonl", [{"key": key, **value} for key, value in lessons.items()])
    text = f"{models} model packages, {len(runs)} runs and {len(attempts)} attempts in {folder}"
    return {
        "models": models,
        "orders": len(runs),
        "attempts": len(attempts),
        "lessons": len(lessons),
        "path": str(folder),
        "message": text,
    }


def _copy_package(store: Store, tree: str, target: Path) -> None:
    """Put a package under ``models/`` as files of its own, not links into the store."""
    target.mkdir(parents=True)
    for name, path in store.open_tree(tree).items():
        shutil.copyfile(path, target / name)


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
