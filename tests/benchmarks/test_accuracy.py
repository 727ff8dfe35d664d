"""The arithmetic behind the accuracy reports, and the integrity of the results they are made of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks.accuracy import results as result_files
from benchmarks.accuracy import targets
from benchmarks.accuracy.compare import bootstrap, compare, regret
from benchmarks.accuracy.measures import expected_calibration_error, loss_of, measure, probabilities
from benchmarks.accuracy.results import SOLVED, Result, lock
from benchmarks.accuracy.run_one import cpu_clock
from benchmarks.accuracy.suite import HELD_OUT, SPECS


def result(table: str, loss: float, *, cpu: float = 1.0, fold: int = 0) -> dict[tuple[str, int], Result]:
    return {(table, fold): Result(table, fold, {"loss": loss, "fit_cpu_s": cpu})}


def test_lock_and_suite_name_the_same_tables():
    assert set(lock()) == set(SPECS)
    assert {name for name, line in lock().items() if line["held_out"]} == set(HELD_OUT)
    assert all(len(line["constant_loss"]) == 5 for line in lock().values())


@pytest.mark.parametrize("path", sorted(result_files.RESULTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_result_line_is_whole(path):
    for text in path.read_text().splitlines():
        line = json.loads(text)
        assert line["method"] == path.stem
        assert line["table"] in lock()
        assert line["fold"] in range(5)
        if "error" not in line:
            assert line["loss"] >= 0
            assert line["fit_cpu_s"] > 0
            assert line["versions"]
            assert line["machine"]["cores"] >= 1


def test_log_loss_of_a_certain_wrong_answer_is_bounded_by_the_floor():
    outputs = np.array([[1.0, 0.0]])
    assert loss_of("binary", np.array([1]), outputs) == pytest.approx(-np.log(1e-7), rel=1e-5)
    assert probabilities(outputs).sum() == pytest.approx(1.0)


def test_calibration_error_by_hand():
    outputs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 1])
    # Bin of 0.9: half the rows, confidence 0.9, accuracy 0.5; bin of 0.6: accuracy 1.
    assert expected_calibration_error(truth, outputs) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_measures_of_regression():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert measure("regression", truth, truth + 1.0) == {"loss": 1.0, "r2": pytest.approx(1 - 1 / 1.25)}


def test_failure_counts_as_the_constant_predictor():
    failed = Result("adult", 0, {"error": "out of memory"})
    assert failed.loss == lock()["adult"]["constant_loss"][0]


def test_solved_tables_do_not_decide_a_ratio():
    found = compare(result("mushroom", 1e-6), result("mushroom", 1e-5))
    assert found is not None
    assert found.loss == 1.0
    assert Result("mushroom", 0, {"loss": 0.0}).floored == SOLVED * lock()["mushroom"]["constant_loss"][0]


def test_comparison_counts_folds_wins_and_the_worst_table():
    ours = (
        result("adult", 0.30, cpu=1) | result("titanic", 0.50, cpu=1) | result("titanic", 0.4, cpu=1, fold=1)
    )
    theirs = (
        result("adult", 0.33, cpu=10)
        | result("titanic", 0.40, cpu=40)
        | result("titanic", 0.4, cpu=40, fold=1)
    )
    found = compare(ours, theirs | result("abalone", 2.0))
    assert found is not None
    assert (found.wins, found.losses, found.folds) == (1, 1, 3)
    assert found.worst.table == "titanic"
    assert found.worst.loss == pytest.approx(0.9 / 0.8)
    assert found.cpu == pytest.approx(np.sqrt(0.1 * 0.025))
    assert found.cpu_total == pytest.approx(3 / 90)
    assert found.interval[0] <= found.loss <= found.interval[1]


def test_nothing_shared_is_no_comparison():
    assert compare(result("adult", 0.3), result("titanic", 0.4)) is None


def test_bootstrap_interval_holds_the_mean_and_narrows_with_tables():
    generator = np.random.default_rng(0)
    logs = generator.normal(-0.05, 0.1, size=200)
    few, many = bootstrap(logs[:10]), bootstrap(logs)
    assert many[0] < np.exp(logs.mean()) < many[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_regret_is_zero_for_the_best_and_one_beyond_the_constant():
    constant = lock()["adult"]["constant_loss"][0]
    everyone = {"good": result("adult", 0.2), "bad": result("adult", constant + 1)}
    assert regret(everyone, "good") == {"adult": 0.0}
    assert regret(everyone, "bad") == {"adult": 1.0}


def test_cpu_clock_stands_still_while_nothing_is_computed():
    import time

    real = time.time
    with cpu_clock(True):
        before = time.time()
        time.sleep(0.2)
        assert time.time() - before < 0.15
    assert time.time is real


def test_a_slower_machine_of_the_peers_is_seen_in_the_yardstick(tmp_path, monkeypatch):
    """The yardstick's oldest line took twice the CPU-seconds of its newest: peers of that day look twice too dear."""
    monkeypatch.setattr(result_files, "RESULTS", tmp_path)
    lines = [
        {"table": table, "fold": 0, "loss": 1.0, "fit_cpu_s": seconds}
        for seconds in (4.0, 2.0)
        for table in ("adult", "letter")
    ]
    path = tmp_path / f"{targets.YARDSTICK}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert targets.machine_factor() == pytest.approx(2.0)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))
    assert targets.machine_factor() == 1.0
