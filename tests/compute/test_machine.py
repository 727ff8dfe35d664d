"""Energy meters, processes' numbers and what the machine is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworks.compute.device import parse_gpus, this_machine
from modelworks.compute.energy import EnergyMeter
from modelworks.compute.memory import cpu_s, descendants, own_cpu_s, private_mb


def counters(folder: Path, values: list[int]) -> Path:
    for index, value in enumerate(values):
        package = folder / f"intel-rapl:{index}"
        (package / f"intel-rapl:{index}:0").mkdir(parents=True, exist_ok=True)
        (package / "energy_uj").write_text(f"{value}\n")
        (package / "max_energy_range_uj").write_text("1000000000\n")
    return folder


def test_energy_is_declared_where_there_is_no_counter(tmp_path: Path) -> None:
    meter = EnergyMeter(declared_watts=12.0, rapl=tmp_path)
    assert not meter.measures
    assert meter.used(meter.read(), 2.0) == (24.0, "declared")
    assert EnergyMeter(declared_watts=0, rapl=tmp_path).used(meter.read(), 2.0) == (0.0, "none")


def test_energy_is_the_jobs_share_of_the_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([100.0, 104.0])
    monkeypatch.setattr("modelworks.compute.energy._busy_s", lambda: next(busy))
    meter = EnergyMeter(rapl=counters(tmp_path, [5_000_000, 1_000_000]))
    before = meter.read()
    counters(tmp_path, [25_000_000, 21_000_000])
    assert meter.used(before, 1.0) == (pytest.approx(10.0), "rapl")


def test_a_counter_that_wraps_does_not_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelworks.compute.energy._busy_s", lambda: 0.0)
    meter = EnergyMeter(rapl=counters(tmp_path, [999_000_000]))
    before = meter.read()
    counters(tmp_path, [1_000_000])
    joules, source = meter.used(before, 1.0)
    assert (joules, source) == (pytest.approx(2.0), "rapl")


def test_processes_are_found_and_measured() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; x = bytearray(80_000_000); time.sleep(60)"])
    try:
        assert child.pid in descendants(os.getpid())
        while private_mb(child.pid) < 80:
            assert child.poll() is None
        assert cpu_s(child.pid) >= 0
    finally:
        child.kill()
        child.wait()
    assert child.pid not in descendants(os.getpid())
    assert private_mb(child.pid) == 0
    assert cpu_s(child.pid) == 0
    assert own_cpu_s() > 0


def test_the_machine_is_plain_data() -> None:
    machine = this_machine()
    assert 1 <= machine.cores <= machine.cores_total
    assert machine.memory_mb > 100
    assert json.loads(json.dumps(machine.to_json()))["cpu"] == machine.cpu


def test_asking_for_the_machine_loads_nothing_heavy() -> None:
    code = (
        "import sys; from modelworks.compute.device import this_machine; this_machine();"
        "heavy = {'numpy', 'onnxruntime', 'torch', 'sklearn'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_gpus_are_read_from_the_drivers_lines() -> None:
    text = (
        "0, NVIDIA H100 80GB HBM3, 81559, 550.54.15, GPU-1\n1, NVIDIA GB10, [N/A], 580.1, GPU-2\nNo devices\n"
    )
    first, second = parse_gpus(text)
    assert (first.name, first.memory_mb, first.driver) == ("NVIDIA H100 80GB HBM3", 85521, "550.54.15")
    assert second.memory_mb == 0


@given(st.text())
def test_any_text_of_a_driver_is_survived(text: str) -> None:
    assert isinstance(parse_gpus(text), tuple)
