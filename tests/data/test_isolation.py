"""Untrusted bytes are parsed in a child with bounds: crashes, hangs and bombs cost that file only."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from modelworks.core.errors import DataError, LimitError
from modelworks.data import ReadOptions, TableLimits, ingest, isolation, open_table
from modelworks.data.isolation import parse_in_child

CSV = "value,colour\n" + "".join(f"{index / 4},{('red', 'blue')[index % 2]}\n" for index in range(50))

needs_limits = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="process limits of Linux")


def _child_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    script = tmp_path / "child.py"
    script.write_text(body)
    monkeypatch.setattr(isolation, "_CHILD", script)


def test_child_and_in_place_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV + "broken\n")
    reports = [
        ingest(tmp_path / "t.csv", tmp_path / f"out{isolate}", isolate=isolate) for isolate in (True, False)
    ]
    assert reports[0] == reports[1]
    assert reports[0]["quarantined"] == 1
    first, second = (open_table(tmp_path / f"out{isolate}") for isolate in (True, False))
    assert first[0].equals(second[0])
    assert first[1] == second[1]


def test_errors_of_the_child_keep_code_and_kind(tmp_path: Path) -> None:
    (tmp_path / "empty.parquet").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        ingest(tmp_path / "empty.parquet", tmp_path / "out")
    assert caught.value.error_code == "MW1120"
    (tmp_path / "t.csv").write_text(CSV)
    with pytest.raises(LimitError) as limit:
        ingest(tmp_path / "t.csv", tmp_path / "out", ReadOptions(limits=TableLimits(rows=5)))
    assert limit.value.error_code == "MW2013"


@needs_limits
def test_memory_bomb_is_refused_and_the_parent_lives(tmp_path: Path) -> None:
    """A Parquet file of a few kilobytes that unpacks to a gigabyte of one repeated cell."""
    cell = pa.array(["y" * 10_000_000])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), cell)
    pyarrow.parquet.write_table(
        pa.table({"x": column}), tmp_path / "bomb.parquet", compression="zstd", store_schema=False
    )
    assert (tmp_path / "bomb.parquet").stat().st_size < 100_000
    limits = TableLimits(memory_mb=512)
    with pytest.raises(LimitError) as caught:
        parse_in_child(tmp_path / "bomb.parquet", "bomb.parquet", ReadOptions(limits=limits), tmp_path)
    assert caught.value.error_code == "MW2017"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "MW1130"),
        ("import sys; sys.exit(3)", "MW1130"),
        ("raise MemoryError", "MW2017"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "MW2016"),
    ],
)
def test_death_of_the_child_is_an_error_of_that_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, code: str
) -> None:
    _child_script(monkeypatch, tmp_path, body)
    (tmp_path / "t.csv").write_text(CSV)
    with pytest.raises((DataError, LimitError)) as caught:
        parse_in_child(tmp_path / "t.csv", "t.csv", ReadOptions(), tmp_path)
    assert caught.value.error_code == code
    assert "t.csv" in caught.value.message


def test_hanging_child_is_ended_at_the_deadline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _child_script(
        monkeypatch,
        tmp_path,
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)",
    )
    (tmp_path / "t.csv").write_text(CSV)
    with pytest.raises(LimitError, match="more than 2 s"):
        parse_in_child(tmp_path / "t.csv", "t.csv", ReadOptions(limits=TableLimits(wall_s=2)), tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@needs_limits
def test_child_bounds_itself_and_sees_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-in-the-mine")
    real = isolation._CHILD
    _child_script(
        monkeypatch,
        tmp_path,
        f"""
import json, os, resource, runpy, sys
child = runpy.run_path({str(real)!r})
job = json.loads(sys.stdin.buffer.read())
child["bound"](job["options"]["limits"])
kinds = ["RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_CORE"]
limits = {{kind: resource.getrlimit(getattr(resource, kind))[0] for kind in kinds}}
secret = "canary" in repr(dict(os.environ)) or "canary" in repr(job)
print(json.dumps({{"value": {{"limits": limits, "secret": secret}}}}))
""",
    )
    (tmp_path / "t.csv").write_text(CSV)
    options = ReadOptions(limits=TableLimits(memory_mb=512, cpu_s=7), storage={"secret": "canary"})
    seen = parse_in_child(tmp_path / "t.csv", "t.csv", options, tmp_path)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert seen["limits"] == {
        "RLIMIT_AS": 512 * 2**20,
        "RLIMIT_CPU": 7,
        "RLIMIT_NOFILE": min(64, hard),
        "RLIMIT_CORE": 0,
    }
    assert seen["secret"] is False


def test_child_imports_no_numpy_and_none_of_the_heavy_rooms(tmp_path: Path) -> None:
    """The start of the child is most of what a small file costs: it must stay light."""
    import subprocess

    code = (
        "import sys\n"
        f"sys.path[:0] = {[str(isolation._PACKAGE), *(p for p in sys.path if p.endswith('-packages'))]!r}\n"
        "sys.modules['numpy'] = None\n"
        "import pathlib\n"
        "from modelworks.data.options import ReadOptions\n"
        "from modelworks.data.parsing import parse_file\n"
        f"parse_file(pathlib.Path({str(tmp_path / 't.csv')!r}), 't', ReadOptions(), pathlib.Path({str(tmp_path)!r}))\n"
        "heavy = {'pyarrow.compute', 'pyarrow.parquet', 'sqlalchemy', 'fsspec', 'scipy', 'modelworks.data.kinds'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    (tmp_path / "t.csv").write_text(CSV)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
