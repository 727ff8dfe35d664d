"""The doctor and the sweep look at what is served."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from modelworks.control.serving_care import look_at_serving, sweep_staged
from modelworks.control.settings import Settings
from modelworks.control.workspace import Workspace
from modelworks.core.errors import StorageError
from modelworks.serving.endpoints import promote, with_version
from modelworks.serving.journal import Change, Journal
from modelworks.serving.proofs import Proof, Proofs

OLD, NEW, LEFT = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(Settings(home=tmp_path))
    state = tmp_path / "serving"
    for digest in (OLD, NEW, LEFT):
        folder = state / "packages" / digest
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"0123")
        hours_ago = time.time() - 7200
        os.utime(folder, (hours_ago, hours_ago))
    journal = Journal(state / "deployments.jsonl")
    endpoint, _ = with_version(None, "sum", OLD, str(state / "packages" / OLD))
    journal.append(Change(actor="test", verb="deploy", endpoint="sum", before=None, state=endpoint))
    after, version = with_version(endpoint, "sum", NEW, str(state / "packages" / NEW))
    after = promote(after, version.number)
    journal.append(Change(actor="test", verb="deploy", endpoint="sum", before=endpoint, state=after))
    return made


def test_what_is_in_order_is_one_line(workspace: Workspace, tmp_path: Path) -> None:
    assert look_at_serving(workspace, strict=False) == [
        ("ok", "1 endpoints from 2 acts whose chain holds", "")
    ]
    assert look_at_serving(Workspace(Settings(home=tmp_path / "other")), strict=True)[0][0] == "ok"


def test_missing_damaged_and_quarantined_packages_are_named(workspace: Workspace) -> None:
    state = workspace.home / "serving"
    assert {note[0] for note in look_at_serving(workspace, strict=True)} == {"error"}
    (state / "packages" / OLD / "model.onnx").unlink()
    (state / "packages" / OLD).rmdir()
    Proofs(state / "proofs").put(Proof(digest=NEW, outcome="quarantined", cause="it crashed", wall=0.0))
    notes = look_at_serving(workspace, strict=False)
    assert [note[0] for note in notes] == ["warning", "error"]
    assert "it crashed" in notes[0][1]
    assert "version 1 of endpoint 'sum' is gone" in notes[1][1]


def test_a_damaged_journal_is_an_error(workspace: Workspace) -> None:
    path = workspace.home / "serving" / "deployments.jsonl"
    path.write_text(path.read_text().replace('"actor":"test"', '"actor":"evil"', 1))
    with pytest.raises(StorageError, match="damaged at act 1"):
        look_at_serving(workspace, strict=False)


def test_only_old_packages_without_an_endpoint_are_swept(workspace: Workspace) -> None:
    folder = workspace.home / "serving" / "packages"
    (folder / ("d" * 64)).mkdir()
    assert sweep_staged(workspace, dry_run=True) == (1, 4)
    assert sweep_staged(workspace, dry_run=False) == (1, 4)
    assert {item.name for item in folder.iterdir()} == {OLD, NEW, "d" * 64}
