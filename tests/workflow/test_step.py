"""Registration of steps, content keys, and the guard of versions."""

import importlib
import sys
from pathlib import Path
from typing import Any

import flow_steps as steps
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworks.core.errors import UsageError
from modelworks.workflow.step import record_sources, registered, source_digests, stale_versions, step

DIGESTS = st.dictionaries(st.text(max_size=5), st.sampled_from(["a" * 64, "b" * 64]), max_size=3)
PARAMS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)


@given(DIGESTS, PARAMS, DIGESTS, PARAMS)
def test_keys_are_equal_exactly_when_the_calls_are(
    inputs: dict[str, str], params: dict[str, Any], other_inputs: dict[str, str], other_params: dict[str, Any]
) -> None:
    same = (inputs, params) == (other_inputs, other_params)
    assert (steps.upper.key(inputs, params) == steps.upper.key(other_inputs, other_params)) == same
    assert steps.upper.key(inputs, params) != steps.join.key(inputs, params)
    assert steps.upper.key(inputs, params) == steps.upper.key(dict(reversed(inputs.items())), params)


def test_a_step_is_found_by_name_and_called_like_a_function(tmp_path: Path) -> None:
    assert registered("upper") is steps.upper
    with pytest.raises(UsageError, match="Did you mean 'upper'"):
        registered("uper")
    text = tmp_path / "in.txt"
    text.write_text("a")
    assert steps.upper({"text": text}, {}, tmp_path) == {"length": 1}


def test_names_are_unique_and_functions_importable() -> None:
    def inner(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> Any:
        return None

    with pytest.raises(UsageError, match="top level"):
        step(version=1)(inner)
    with pytest.raises(UsageError, match="Two steps"):
        step(version=1, name="upper")(test_names_are_unique_and_functions_importable)  # type: ignore[arg-type]


SOURCE = '''
"""A module with a step."""
from modelworks.workflow.step import step

@step(version={version}, name="{name}", sources=("{helper}",))
def made(inputs, params, folder):
    """Say something."""
    return {value}
'''


class Modules:
    """Modules written for a test, imported afresh after each change."""

    def __init__(self, folder: Path, tag: str) -> None:
        self.folder, self.main, self.helper = folder, f"made_{tag}", f"helper_{tag}"
        self.write()

    def write(
        self, *, version: int = 1, value: str = "1", helper: str = "RATE = 1", comment: str = ""
    ) -> None:
        (self.folder / f"{self.helper}.py").write_text(helper + "\n")
        text = SOURCE.format(version=version, name=self.main, helper=self.helper, value=value)
        (self.folder / f"{self.main}.py").write_text(text + comment)
        for name in (self.main, self.helper):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Modules:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Modules(tmp_path, tmp_path.name.replace("-", "_"))


def test_a_changed_source_needs_a_new_version(modules: Modules, tmp_path: Path) -> None:
    record = tmp_path / "steps.json"
    assert "not recorded" in stale_versions(record, [modules.main])[0]
    record_sources(record, [modules.main])
    assert stale_versions(record, [modules.main]) == []
    modules.write(comment="# only a comment\n")
    assert stale_versions(record, [modules.main]) == []
    for change in ({"value": "2"}, {"helper": "RATE = 2"}):
        modules.write(**change)
        (problem,) = stale_versions(record, [modules.main])
        assert "kept version 1" in problem
    modules.write(value="2", version=2)
    assert "has version 2, recorded is 1" in stale_versions(record, [modules.main])[0]
    record_sources(record, [modules.main])
    assert stale_versions(record, [modules.main]) == []


def test_a_step_that_is_gone_is_told(modules: Modules, tmp_path: Path) -> None:
    record = tmp_path / "steps.json"
    record.write_text('{"old": {"version": 1, "source": "x"}}')
    assert "step 'old' is recorded and does not exist" in stale_versions(record, [modules.main])


def test_digests_are_of_the_named_modules_only() -> None:
    found = source_digests(["flow_steps"])
    assert {"upper", "join"} <= set(found)
    assert all(entry["version"] == 1 for entry in found.values())
    assert source_digests([]) == {}
