"""Settings: file, then environment, then the caller; every value knows where it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelworks.control.settings import load_settings
from modelworks.core.errors import UsageError


def test_the_environment_is_over_the_file_and_the_caller_over_both(tmp_path: Path) -> None:
    (tmp_path / "modelworks.yaml").write_text(
        "home: kept\nslots: 2\nmemory: false\nprices: {cpu_hour: 0.1, currency: USD}\n"
    )
    settings = load_settings({"MODELWORKS_SLOTS": "3"}, folder=tmp_path)
    assert settings.home == tmp_path / "kept"
    assert (settings.slots, settings.memory, settings.prices["currency"]) == (3, False, "USD")
    assert settings.sources["slots"] == "MODELWORKS_SLOTS"
    assert settings.sources["memory"].endswith("modelworks.yaml")
    assert load_settings({"MODELWORKS_HOME": "/elsewhere"}, folder=tmp_path, home=tmp_path).home == tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slot: 2", "Did you mean 'slots'"),
        ("slots: many", "expected a whole number"),
        ("prices: {cpu: 1}", "no field 'cpu'"),
        ("durability: half", "not one of full, normal"),
        ("heartbeat_s: 0", "must be above 0"),
    ],
)
def test_a_wrong_file_is_answered_with_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "modelworks.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings({}, folder=tmp_path)
    assert message in str(caught.value)
    assert "line 1" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODELWORKS_SLOTS", "x"), ("MODELWORKS_MEMORY", "maybe"), ("MODELWORKS_DURABILITY", "half")],
)
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        load_settings({name: value}, folder=tmp_path)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not there"):
        load_settings({"MODELWORKS_CONFIG": str(tmp_path / "none.yaml")}, folder=tmp_path)


def test_a_password_of_the_database_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql://user:secret@host/db"
    settings = load_settings({"MODELWORKS_DATABASE": url}, folder=tmp_path)
    assert settings.database == url
    assert settings.to_json()["database"] == "postgresql://user:***@host/db"
