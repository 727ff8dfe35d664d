"""Named values: never partial, the version before where the newest is damaged."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import NotFound, TrustError, UsageError
from modelworks.storage.pointers import Pointers
from modelworks.storage.store import Store


@pytest.fixture
def pointers(tmp_path: Path) -> Pointers:
    return Pointers(Store(tmp_path / "store"))


def test_the_newest_value_is_read(pointers: Pointers) -> None:
    pointers.publish("champion", {"digest": "a"})
    pointers.publish("champion", {"digest": "b"})
    assert pointers.read("champion").value == {"digest": "b"}
    assert pointers.names() == ["champion"]
    pointers.withdraw("champion")
    with pytest.raises(NotFound):
        pointers.read("champion")


def test_a_misspelt_name_gets_a_hint(pointers: Pointers) -> None:
    pointers.publish("champion", 1)
    with pytest.raises(NotFound, match="Did you mean 'champion'"):
        pointers.read("champoin")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 101])
def test_a_name_cannot_leave_its_folder(pointers: Pointers, name: str) -> None:
    with pytest.raises(UsageError):
        pointers.publish(name, 1)


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 200), flip=st.integers(0, 255))
def test_any_damage_falls_back_to_the_version_before(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    store = Store(tmp_path_factory.mktemp("pointers") / "store")
    pointers = Pointers(store)
    pointers.publish("champion", {"version": 1})
    pointers.publish("champion", {"version": 2})
    path = store.root / "names" / "champion.json"
    data = path.read_bytes()
    place = cut % len(data)
    damaged = data[:place] if flip == data[place] else data[:place] + bytes([flip]) + data[place + 1 :]
    path.write_bytes(damaged)
    pointer = pointers.read("champion")
    assert pointer.value == {"version": 1}
    assert "champion" in pointer.damage
    assert "mw doctor --repair" in pointer.damage
    assert pointers.repair("champion")
    assert pointers.read("champion").damage == ""


def test_a_damaged_name_without_a_version_before_is_refused(pointers: Pointers, tmp_path: Path) -> None:
    pointers.publish("champion", 1)
    (tmp_path / "store" / "names" / "champion.json").write_bytes(b"{")
    with pytest.raises(TrustError, match="champion"):
        pointers.read("champion")
