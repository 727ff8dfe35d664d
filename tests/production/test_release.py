"""Releases and decisions: once, whoever asks how often; a champion is what somebody else released."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.production.decisions import Decisions
from modelworks.production.release import Releases
from modelworks.storage.catalog import Catalog
from modelworks.storage.store import Entry, Store


class Home:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalog = Catalog(folder / "db")
        self.store = Store(folder / "artifacts")
        self.releases = Releases(self.catalog, self.store, folder / "models")

    def package(self, text: str) -> str:
        entry = Entry(digest=self.store.put_bytes(text.encode()), size=len(text))
        return self.store.put_listing({"manifest.json": entry})

    def release(self, run: str, text: str, table: str = "t", name: str = "m", graph: str = "") -> Path:
        digest = self.store.put_bytes(text.encode())
        outputs = {"package/manifest.json": (digest, len(text)), "judged.json": (digest, len(text))}
        if graph:
            outputs["package/model.onnx"] = (self.store.put_bytes(graph.encode()), len(graph))
        found = self.releases.release(name, {"run": run, "table": table, "package": text}, outputs)
        assert (found.folder / "manifest.json").read_text() == found.package
        return found.folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.catalog.close()


def test_a_release_is_a_plain_folder_with_a_version(home: Home) -> None:
    folder = home.release("a", "one")
    assert folder.name == "v1"
    assert (folder / "manifest.json").read_text() == "one"
    assert (folder / "manifest.json").stat().st_nlink == 1
    assert (home.folder / "models" / "m" / "current").resolve() == folder.resolve()


def test_releasing_again_changes_nothing(home: Home) -> None:
    assert home.release("a", "one") == home.release("a", "one") == home.release("b", "one")
    assert len(home.catalog.names.history("model", "m")) == 1
    assert len(home.catalog.packages.find(name="m")) == 1


def test_the_same_graph_made_again_by_the_same_order_is_no_new_version(home: Home) -> None:
    first = home.release("a", "measured 1 s", graph="g")
    assert home.release("a", "measured 2 s", graph="g") == first
    assert home.release("a", "measured 2 s", graph="other").name == "v2"
    assert home.release("a", "measured 3 s", table="new rows", graph="g").name == "v3"
    assert home.release("b", "measured 4 s", graph="g").name == "v4"


def test_an_old_order_made_again_does_not_take_the_name_back(home: Home) -> None:
    home.release("a", "one")
    home.release("b", "two")
    home.release("a", "one")
    assert (home.folder / "models" / "m" / "current").resolve().name == "v2"


def test_a_release_that_was_cut_off_is_finished(home: Home) -> None:
    folder = home.release("a", "one")
    (home.folder / "models" / "m" / "current").unlink()
    (folder / "manifest.json").unlink()
    folder.rmdir()
    assert (home.release("a", "one") / "manifest.json").exists()
    assert (home.folder / "models" / "m" / "current").exists()


def test_the_champion_is_what_another_run_or_other_data_brought(home: Home) -> None:
    assert home.releases.champion("m", "a", "t") == ""
    home.release("a", "one")
    assert home.releases.champion("m", "a", "t") == ""
    assert home.releases.champion("m", "a", "new data") == home.package("one")
    assert home.releases.champion("m", "b", "t") == home.package("one")
    home.release("b", "two")
    assert home.releases.champion("m", "a", "t") == home.package("two")
    assert home.releases.champion("m", "c", "t") == home.package("two")


class Shelf(dict[str, dict[str, object]]):
    def remember(self, space: str, key: str, value: object) -> None:
        self.setdefault(space, {})[key] = value

    def recall(self, space: str) -> dict[str, object]:
        return dict(self.get(space, {}))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(), st.booleans()), max_size=12))
def test_a_decision_is_made_once_and_survives_a_restart(asked: list[tuple[str, int, bool]]) -> None:
    shelf = Shelf()
    first: dict[str, int] = {}
    decisions = Decisions(shelf, "run")
    for name, value, restart in asked:
        if restart:
            decisions = Decisions(shelf, "run")
        assert decisions.once(name, lambda value=value: value) == first.setdefault(name, value)
    assert Decisions(shelf, "other").once("a", lambda: "mine") == "mine"


def test_a_decision_can_be_made_again() -> None:
    shelf = Shelf()
    Decisions(shelf, "run").once("a", lambda: 1)
    assert Decisions(shelf, "run").once("a", lambda: 2, again=True) == 2
    assert Decisions(shelf, "run").once("a", lambda: 3) == 2
