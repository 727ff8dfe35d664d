"""Commands find the servers of an installation, and those alone that still run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelworks.serving import running
from modelworks.serving.running import find_running, forget, record

_REPORT = {"url": "http://0.0.0.0:8080", "grpc_port": 8081}


def test_a_second_server_that_ends_does_not_hide_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, _REPORT, None)
    first = find_running(tmp_path)
    assert first is not None and first.url == "http://127.0.0.1:8080"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        second = {
            **json.loads(next(tmp_path.glob("running-*.json")).read_text()),
            "pid": other.pid, "born": running.psutil.Process(other.pid).create_time(),
            "url": "http://127.0.0.1:9", "since": first.since + 1,
        }  # fmt: skip
        (tmp_path / f"running-{other.pid}.json").write_text(json.dumps(second))
        latest = find_running(tmp_path)
        assert latest is not None and latest.url == "http://127.0.0.1:9"
        assert find_running(tmp_path, os.getpid()) == first
        assert other.stdin is not None
        other.stdin.write(b"\n")
        other.stdin.close()
        other.wait(20)
    assert find_running(tmp_path) == first
    record(tmp_path, _REPORT, None)
    assert [path.name for path in tmp_path.glob("running-*.json")] == [f"running-{os.getpid()}.json"]
    forget(tmp_path)
    assert find_running(tmp_path) is None


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "running-1.json").write_text("{")
    assert find_running(tmp_path) is None
