"""What a server is told: file, environment and caller, the later one wins, each with its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelworks.cli.endpoints import _setting
from modelworks.cli.serving import share_of
from modelworks.control.rows import read_rows, rows_of_samples, rows_of_texts
from modelworks.control.serve_settings import SHAPES, serve_settings, shown
from modelworks.control.settings import load_settings
from modelworks.core.errors import DataError, UsageError
from modelworks.serving.settings import ServeSettings


def settings(tmp_path: Path, **given: Any) -> tuple[ServeSettings, dict[str, str]]:
    return serve_settings(tmp_path, (), {}, {}, given)


def test_the_caller_wins_over_the_environment_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "modelworks.yaml"
    path.write_text("serving: {port: 1, workers: 2, keep_ready: true, host_names: [a, b]}\n")
    written = load_settings({"MODELWORKS_CONFIG": str(path)}, home=tmp_path).serving
    environment = {"MODELWORKS_SERVE_PORT": "2", "MODELWORKS_SERVE_ORIGINS": "http://a, http://b"}
    found, sources = serve_settings(
        tmp_path, (), written, environment, {"port": 3, "workers": None}, str(path)
    )
    assert (found.port, found.workers, found.keep_ready) == (3, 2, True)
    assert found.host_names == ("a", "b")
    assert found.origins == ("http://a", "http://b")
    assert sources["port"] == "the caller"
    assert sources["workers"] == str(path)
    assert sources["origins"] == "MODELWORKS_SERVE_ORIGINS"
    page = shown(found, sources)
    assert page["deadline_s"] == {"value": 30.0, "from": "built in"}


def test_every_setting_can_be_named_and_every_name_is_a_setting(tmp_path: Path) -> None:
    known = set(ServeSettings.__dataclass_fields__) - {"packages", "home", "quiet"}
    assert set(SHAPES) - {"grpc"} == known
    assert settings(tmp_path, grpc=False)[0].grpc_port is None


@pytest.mark.parametrize(
    ("environment", "given", "text"),
    [
        (
            {"MODELWORKS_SERVE_PORT": "many"},
            {},
            "MODELWORKS_SERVE_PORT cannot be used: port: expected a whole number",
        ),
        ({"MODELWORKS_SERVE_ACCESS_LOG": "al"}, {}, "Did you mean 'all'"),
        ({}, {"port": 70_000}, "must be at least 0 and at most 65535"),
        ({}, {"prot": 1}, "prot"),
        ({}, {"tls_certificate": "x"}, "TLS needs a certificate and its key"),
        ({}, {"host": "0.0.0.0"}, "clear text"),
    ],
)
def test_what_cannot_work_is_said(
    tmp_path: Path, environment: dict[str, str], given: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        serve_settings(tmp_path, (), {}, environment, given)


def test_a_flag_and_a_text_of_the_environment_are_read_as_such(tmp_path: Path) -> None:
    found, _ = serve_settings(
        tmp_path, (), {}, {"MODELWORKS_SERVE_KEEP_READY": "on", "MODELWORKS_SERVE_NAME": "1"}, {}
    )
    assert found.keep_ready is True
    assert found.name == "1"


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), ("0.25", 0.25), ("", None), (" 5 % ", 0.05), ("0", 0.0)]
)
def test_shares(text: str, share: float | None) -> None:
    assert share_of(text) == (pytest.approx(share) if share is not None else None)


@pytest.mark.parametrize("text", ["100%", "1", "-1%", "much", "%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        share_of(text)


def test_settings_of_an_endpoint_as_words() -> None:
    assert _setting("pin=true") == ("pin", True)
    assert _setting("nan=refuse") == ("nan", "refuse")
    assert _setting("redact=name, street") == ("redact", ["name", "street"])
    assert _setting("pin=") == ("pin", None)
    with pytest.raises(UsageError):
        _setting("pin")


def test_rows_come_from_words_files_and_standard_input(tmp_path: Path) -> None:
    import io

    (tmp_path / "a.jsonl").write_text('{"x": 1}\n\n{"x": 2}\n')
    (tmp_path / "a.csv").write_text("x,zip,more\n1.5,007,z\n,8,z\n")
    nothing = io.StringIO("")
    assert read_rows(['{"x": 1}', '[{"x": 2}]'], "", nothing) == [{"x": 1}, {"x": 2}]
    assert read_rows([], str(tmp_path / "a.jsonl"), nothing) == [{"x": 1}, {"x": 2}]
    assert read_rows([], "-", io.StringIO('{"rows": [{"x": 3}]}')) == [{"x": 3}]
    (tmp_path / "A.PNG").write_bytes(b"png")
    sample = read_rows([], str(tmp_path / "A.PNG"), nothing)
    assert rows_of_samples(sample, [{"columns": ["photo"]}]) == [{"photo": "cG5n"}]
    with pytest.raises(UsageError, match="the model reads age, zip"):
        rows_of_samples(sample, [{"columns": ["age"]}, {"columns": ["zip"]}])
    texts = read_rows([], str(tmp_path / "a.csv"), nothing)
    inputs = [{"datatype": "FP32", "columns": ["x"]}, {"datatype": "BYTES", "columns": ["zip"]}]
    assert rows_of_texts(texts, inputs) == [{"x": 1.5, "zip": "007"}, {"x": None, "zip": "8"}]
    for wrong in (["[1]"], ["{"], []):
        with pytest.raises(UsageError):
            read_rows(wrong, "", nothing)
    with pytest.raises(DataError):
        read_rows([], str(tmp_path / "absent.csv"), nothing)
