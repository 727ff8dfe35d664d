"""The public names of the package are a promise."""

from __future__ import annotations

import inspect

import modelworks as mw

NAMES = {
    "Check", "Client", "ColumnKind", "DataError", "InputError", "LimitError", "Measure", "Model", "ModelworksError",
    "Order", "Result", "Server", "Service", "Settings", "TaskError", "TaskKind", "TrustError", "Verdict",
    "VerdictKind", "__version__", "deploy", "load", "order", "produce", "serve",
}  # fmt: skip


def test_the_public_names_are_as_promised() -> None:
    assert set(mw.__all__) == NAMES
    for name in NAMES:
        assert getattr(mw, name) is not None


def test_the_public_functions_take_what_was_promised() -> None:
    assert list(inspect.signature(mw.produce).parameters) == [
        "data", "target", "name", "home", "slots", "memory", "settings",
    ]  # fmt: skip
    assert list(inspect.signature(mw.order).parameters) == ["what", "home", "slots", "memory"]
    assert list(inspect.signature(mw.load).parameters) == ["package", "home"]
    assert list(inspect.signature(mw.serve).parameters) == ["models", "home", "settings"]
    assert list(inspect.signature(mw.deploy).parameters) == [
        "model", "version", "endpoint", "canary", "shadow", "sticky", "change_signature", "home",
    ]  # fmt: skip
    assert list(inspect.signature(mw.Client).parameters) == [
        "url", "token", "timeout_s", "retries", "certificate",
    ]  # fmt: skip


def test_members_of_results_are_as_promised() -> None:
    def members(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_") or name == "_repr_html_"}

    assert members(mw.Result) == {
        "verdict", "measures", "cost", "package", "model", "predict", "report", "_repr_html_",
    }  # fmt: skip
    assert members(mw.Order) == {"cost", "report", "_repr_html_"}
    assert members(mw.Client) == {
        "call", "close", "endpoint", "infer", "model", "models", "outcome", "predict", "predict_many", "ready",
        "status",
    }  # fmt: skip
    assert members(mw.Server) == {"client", "stop"}
    assert members(mw.Model) == {"name", "package", "columns", "predict", "explain", "verify", "_repr_html_"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(mw, "nothing")


def test_the_version_is_the_distribution_s() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    assert mw.__version__ == project["project"]["version"]
