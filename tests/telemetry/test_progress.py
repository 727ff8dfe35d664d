"""Progress without a terminal and on one, from the events of a run."""

import io
import json
import os
import pty
from pathlib import Path

import pytest

from modelworks.core.job import Usage
from modelworks.telemetry.events import (
    Event,
    JsonLines,
    LineEnded,
    Note,
    Planned,
    RunEnded,
    RunStarted,
    StepEnded,
    StepRetried,
    StepStarted,
    fan_out,
)
from modelworks.telemetry.ledger import Prices
from modelworks.telemetry.progress import Progress, duration


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def events() -> list[Event]:
    usage = Usage(cpu_s=1800.0)
    return [
        RunStarted(at=1, run="r", kind="order", token=1),
        Planned(at=1, run="r", lines=4, cpu_s=100, wall_s=80),
        StepStarted(at=1, run="r", step="fit", label="churn", key="k", attempt=1),
        StepRetried(at=1, run="r", step="fit", label="churn", key="k", attempt=1, error={}),
        StepEnded(at=2, run="r", step="fit", label="churn", key="k", status="done", usage=usage),
        StepEnded(at=2, run="r", step="fit", label="other", key="k", status="done", memoised=True),
        LineEnded(at=2, run="r", label="churn", verdict="released"),
        LineEnded(at=2, run="r", label="other", verdict="refused", cause="no better than the baseline"),
        Note(at=3, run="r", text="one file was skipped", level="warning"),
        RunEnded(at=4, run="r", status="done"),
    ]


def test_plain_lines_tell_time_left_and_cost() -> None:
    time, stream = Time(), io.StringIO()
    with Progress(stream, prices=Prices(cpu_hour=0.1, currency="EUR"), monotonic=time) as progress:
        for event in events():
            if isinstance(event, LineEnded):
                time.now += 10
            progress(event)
    text = stream.getvalue()
    assert "plan: 4 tasks, about 1 min 20 s and 100 CPU-seconds" in text
    assert "churn fit: try 1 failed, trying again" in text
    assert "other: refused (no better than the baseline)" in text
    assert "warning: one file was skipped" in text
    last = text.splitlines()[-1]
    assert "2/4 tasks | 1 refused | 1 released | 2 steps (1 reused)" in last
    assert "20 s so far | 20 s left | 1800.0 CPU-s, 0.0500 EUR" in last
    assert "\x1b" not in text


def test_heartbeats_come_at_their_interval_and_not_with_every_event() -> None:
    time, stream = Time(), io.StringIO()
    progress = Progress(stream, heartbeat_s=10, monotonic=time)
    started = StepStarted(at=1, run="r", step="fit", label="churn", key="k", attempt=1)
    for _ in range(100):
        time.now += 1
        progress(started)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert "now: fit churn" in lines[0]


def test_the_plan_sets_the_time_left_until_a_line_ended() -> None:
    time = Time()
    progress = Progress(io.StringIO(), monotonic=time)
    assert progress.left_s() is None
    progress(Planned(at=1, run="r", lines=4, cpu_s=100, wall_s=80))
    time.now = 30
    assert progress.left_s() == 50
    progress(LineEnded(at=1, run="r", label="a", verdict="released"))
    assert progress.left_s() == 90


def test_a_terminal_gets_one_moving_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream:
        with Progress(stream) as progress:
            for event in events():
                progress(event)
        stream.flush()
        text = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert "churn: released" in text
    assert "\x1b[" in text


def test_events_are_json_lines(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "events.jsonl")
    seen: list[Event] = []
    send = fan_out(lines, seen.append)
    for event in events():
        send(event)
    lines.close()
    lines(events()[0])
    read = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [item["event"] for item in read] == [event.name for event in seen]
    assert len({event.name for event in seen}) == 8
    assert read[4]["usage"]["cpu_s"] == 1800.0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_stops_the_log_and_not_the_work() -> None:
    lines = JsonLines(Path("/dev/full"))
    for event in events():
        lines(event)
    assert lines.stopped is not None
    assert "space" in lines.stopped
    lines.close()


def test_durations_are_readable() -> None:
    assert [duration(value) for value in (-1, 42.4, 185, 7620)] == ["0 s", "42 s", "3 min 5 s", "2 h 7 min"]
