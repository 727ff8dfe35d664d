"""Corrections for many tests and many looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelworks.core.errors import UsageError
from modelworks.evaluation.multiplicity import ERROR_RATE, benjamini_hochberg, holm, tail_of_look

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []


@given(P_VALUES)
def test_benjamini_hochberg_equals_scipy(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values))


@given(P_VALUES)
def test_holm_is_between_nothing_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p) + 1e-12 or corrected == max(adjusted)


def test_a_larger_family_costs_more() -> None:
    assert benjamini_hochberg([0.001, 0.002], tested=100)[0] == pytest.approx(0.1)


def test_all_looks_together_cost_no_more_than_the_error_rate() -> None:
    spent = np.cumsum([tail_of_look(look) for look in range(1, 100_000)])
    assert spent[0] == pytest.approx(0.025)
    assert spent[-1] < ERROR_RATE
    assert spent[-1] == pytest.approx(ERROR_RATE, rel=1e-4)
    with pytest.raises(UsageError):
        tail_of_look(0)
