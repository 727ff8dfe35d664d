"""The verbs that need no fitted model: reading, keeping tables, secrets, care of the installation."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from modelworks.control.service import Service
from modelworks.control.settings import load_settings
from modelworks.core.errors import Conflict, DataError, NotFound, TaskError
from modelworks.production.memory import Facts, Lesson


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service.open(home=tmp_path / "home")


def test_equal_tables_are_kept_once(service: Service) -> None:
    columns = {"x": [1, 2, 3], "y": ["a", "b", None]}
    first, was_source = service.source_of(pa.table(columns))
    assert not was_source
    assert service.source_of(pa.table(columns).replace_schema_metadata({"from": "elsewhere"}))[0] == first
    frame = service.source_of(pd.DataFrame(columns))[0]
    assert service.source_of(pd.DataFrame(columns, index=[7, 8, 9]))[0] == frame
    assert Path(service.source_of(pl.DataFrame(columns))[0]).exists()
    assert service.source_of("file.csv") == ("file.csv", True)
    assert service.source_of(pa.table({"x": [1, 2, 4]}))[0] != first


@pytest.mark.parametrize(
    "wrong", [3, {"x": [1]}, pd.DataFrame({"x": [1, "a", b"c"]})], ids=["int", "dict", "mixed"]
)
def test_what_is_no_table_is_refused(service: Service, wrong: object) -> None:
    with pytest.raises(DataError):
        service.source_of(wrong)


def test_a_password_in_a_source_is_in_no_record(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://ann:s3cret@host/db"
    order = service.order_from({"tasks": [{"name": "t", "data": url, "target": "y", "query": "select 1"}]})
    text = json.dumps(order.to_json())
    assert "s3cret" not in text
    assert os.path.expandvars(order.lines[0].data) == url
    again = service.order_from({"tasks": [{"name": "t", "data": url, "target": "y", "query": "select 1"}]})
    assert again.digest == order.digest
    for name in [name for name in os.environ if name.startswith("MODELWORKS_SECRET_")]:
        monkeypatch.delenv(name)


def test_settings_of_a_single_task_are_checked_like_an_order(service: Service, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    order = service.single(
        str(tmp_path / "t.csv"), ["y"], settings={"gate": {"r2": ">= 0.5"}, "budget": "2m"}
    )
    assert order.name == "t"
    assert order.lines[0].settings == {"gate": {"r2": ">= 0.5"}, "budget": "2m"}
    with pytest.raises(TaskError, match=r"metrik.*Did you mean 'metric'"):
        service.single(str(tmp_path / "t.csv"), ["y"], settings={"metrik": "r2"})


def test_an_empty_installation_is_healthy_and_empty(service: Service, tmp_path: Path) -> None:
    assert service.doctor(strict=True)["ok"]
    assert service.order_list() == []
    assert service.model_list() == []
    assert service.package_list() == []
    assert service.cost()["rows"] == []
    assert service.gc()["blobs"] == 0
    with pytest.raises(NotFound):
        service.order_show("none")
    assert service.export(tmp_path / "out")["models"] == 0
    with pytest.raises(Conflict):
        service.export(tmp_path / "out")


def test_memory_is_shown_and_cleared(service: Service) -> None:
    lesson = Lesson(facts=Facts(kind="binary", rows=9), members=(), cpu_s=1.0, task="t")
    service.workspace.catalog.memory.remember("lessons", "k", lesson.to_json())
    assert [item["task"] for item in service.memory_show()["lessons"]] == ["t"]
    assert service.memory_clear() == {"cleared": 1}
    assert service.memory_show() == {"lessons": []}


def test_the_doctor_finds_a_damaged_artifact_and_removes_it(service: Service) -> None:
    store = service.workspace.store
    digest = store.put_bytes(b"precious")
    service.workspace.catalog.names.set(
        "model", "m", {"tree": digest, "run": "r", "package": "p"}, expected=0
    )
    path = store.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"precioux")
    found = service.doctor(strict=True)
    assert not found["ok"]
    (damage,) = [item for item in found["checks"] if item["check"] == "artifacts"]
    assert damage["fix"] == "mw doctor --repair"
    service.doctor(strict=True, repair=True)
    assert not store.has(digest)


def test_a_table_is_shown_with_kinds_and_reasons(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("city,age\n" + "".join(f"{'Bern' if i % 2 else 'Basel'},{i * 1.5}\n" for i in range(40)))
    shown = service.data_show(str(path))
    assert {column["name"]: column["kind"] for column in shown["columns"]} == {
        "city": "category",
        "age": "number",
    }
    assert all(column["reason"] for column in shown["columns"])
    assert shown["rows"] == 40
    other = service.data_show(str(path), {"kinds": {"age": "category"}})
    assert other["columns"][1]["kind"] == "category"


def test_samples_are_shown_with_what_was_set_aside(service: Service, tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    photos = tmp_path / "photos"
    for place in ("a", "b"):
        (photos / place).mkdir(parents=True)
        image_module.new("RGB", (4, 6), "red" if place == "a" else "blue").save(photos / place / "x.png")
    (photos / "a" / "broken.png").write_bytes(b"no image")
    shown = service.data_show(str(photos))
    assert shown["report"]["format"] == "images"
    assert (shown["rows"], shown["report"]["quarantined"]) == (2, 1)
    listed = tmp_path / "list.csv"
    listed.write_text("name,old,good\nx1.png,y.png,1\nb/x.png,z.png,0\n")
    with pytest.raises(DataError, match="2 columns"):
        service.data_show(str(listed), {"files": str(photos)})
    found = service.data_show(str(listed), {"files": str(photos), "file_column": "name"})
    assert (found["rows"], found["report"]["quarantined"]) == (1, 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images, sounds, texts or series"):
        service.data_show(str(tmp_path / "empty"))


def test_the_demo_order_is_valid(service: Service) -> None:
    order = service.demo_order()
    assert len(order.lines) == 6
    for line in order.lines:
        assert Path(line.data).exists()


def test_a_person_s_time_is_on_the_bill(tmp_path: Path) -> None:
    (tmp_path / "modelworks.yaml").write_text("prices: {human_hour: 36}\nhome: home\n")
    service = Service(load_settings({}, folder=tmp_path))
    service.memory_clear(person_s=10.0)
    bill = service.cost()
    assert bill["total"]["human_s"] == 10.0
    assert bill["total"]["money"] == pytest.approx(0.1)
