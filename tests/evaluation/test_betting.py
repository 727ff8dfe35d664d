"""The betting test: valid at every look, resumable, and as quick as was measured for the closed loop."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import UsageError
from modelworks.evaluation import SequentialTest


def differences(rng: np.random.Generator, rows: int, mean: float, disagree: float) -> np.ndarray:
    gain = (disagree + mean) / 2
    return rng.choice([1.0, -1.0, 0.0], rows, p=[gain, disagree - gain, 1 - disagree])


def test_peeking_after_every_row_does_not_raise_the_error() -> None:
    """The candidate is worse by exactly the margin: it may be accepted in 5 % of the worlds, at any of 3,000 looks."""
    rng = np.random.default_rng(0)
    test = SequentialTest(margin=0.02)
    accepted = sum(test.after(differences(rng, 3000, -0.02, 0.08)).decision == "accepted" for _ in range(300))
    assert accepted / 300 < 0.08


def test_a_plain_test_would_be_fooled_by_the_same_peeking() -> None:
    rng = np.random.default_rng(0)
    fooled = 0
    for _ in range(200):
        x = differences(rng, 3000, -0.02, 0.08) + 0.02
        n = np.arange(1, 3001)
        mean = np.cumsum(x) / n
        error = np.sqrt(np.maximum(np.cumsum(x**2) / n - mean**2, 1e-12) / n)
        fooled += np.any((mean / error > 1.645)[100::50])
    assert fooled / 200 > 0.12


@pytest.mark.parametrize(("mean", "most"), [(0.0, 6000), (0.01, 1200), (0.02, 700)])
def test_pairs_until_acceptance(mean: float, most: int) -> None:
    """closed-loop notes, 5 % disagreement, margin one point: about 4,013, 672 and 360 pairs in the median."""
    rng = np.random.default_rng(1)
    stopped = []
    for _ in range(40):
        test, x = SequentialTest(margin=0.01), differences(rng, 20_000, mean, 0.05)
        for start in range(0, 20_000, 100):
            test = test.after(x[start : start + 100])
            if test.decision != "undecided":
                break
        stopped.append(test.n if test.decision == "accepted" else 20_000)
    assert np.median(stopped) <= most


def test_a_clearly_worse_candidate_is_rejected() -> None:
    test = SequentialTest(margin=0.01).after(differences(np.random.default_rng(2), 3000, -0.06, 0.10))
    assert test.decision == "rejected"
    assert test.e_value_against > 20 > test.e_value


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=6), seed=st.integers(0, 1000))
def test_rows_in_one_piece_or_in_many_decide_alike(cuts: list[int], seed: int) -> None:
    x = differences(np.random.default_rng(seed), 400, 0.03, 0.2)
    whole = SequentialTest(margin=0.02).after(x)
    pieces = SequentialTest(margin=0.02)
    for part in np.split(x, sorted(cuts)):
        pieces = SequentialTest.from_json(json.loads(json.dumps(pieces.after(part).to_json())))
    assert pieces.decision == whole.decision and pieces.n == 400
    assert pieces.capital == pytest.approx(whole.capital)


def test_a_decision_stays() -> None:
    test = SequentialTest(margin=0.05).after(np.ones(200))
    assert test.decision == "accepted"
    assert test.after(-np.ones(2000)).decision == "accepted"


def test_agreement_alone_is_evidence_of_no_harm() -> None:
    assert SequentialTest(margin=0.02).after(np.zeros(2000)).decision == "accepted"


@pytest.mark.parametrize("bad", [{"margin": 0.0}, {"margin": 1.0}, {"margin": 0.1, "error": 0.0}])
def test_senseless_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        SequentialTest(**bad)


@pytest.mark.parametrize("value", [1.5, float("nan"), float("-inf")])
def test_scores_outside_their_range_are_refused(value: float) -> None:
    with pytest.raises(UsageError):
        SequentialTest(margin=0.1).after(np.array([0.0, value]))
