"""Memory and forecast: nearer tables count more, nothing is skipped on thin evidence, forecasts learn."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.production.forecast import first_guess, forecast_fit, total_of
from modelworks.production.memory import Advice, Facts, Lesson, Outcome, advise, distance, facts_of, lesson_of

FACTS = Facts(kind="binary", rows=1000, numbers=8, categories=3, classes=2, rarest=0.3)


def lesson(task: str, facts: Facts = FACTS, **weights: float) -> Lesson:
    members = tuple(
        Outcome(name=name, ratio=1.0 if weight else 1.3, cpu_s=0.1, weight=weight)
        for name, weight in weights.items()
    )
    return Lesson(facts=facts, members=members, cpu_s=1.0, task=task)


def test_too_few_neighbours_give_no_advice() -> None:
    assert advise(FACTS, [lesson("a", boosted=1.0), lesson("b", boosted=1.0)]) == Advice()


def test_the_useful_come_first_and_the_useless_are_skipped() -> None:
    lessons = [lesson(name, linear=0.0, boosted=0.7, forest=0.3) for name in "abcd"]
    advice = advise(FACTS, lessons)
    assert advice.order == ("boosted", "forest")
    assert advice.skipped == ("linear",)
    assert set(advice.neighbours) == set("abcd")


def test_a_member_that_costs_next_to_nothing_is_never_skipped() -> None:
    """A target that is a straight line of a column came out three times worse because its neighbours were not."""
    lessons = [lesson(name, linear=0.0, boosted=1.0) for name in "abcd"]
    cheap = [replace(one, members=(replace(one.members[0], cpu_s=0.02), *one.members[1:])) for one in lessons]
    assert advise(FACTS, lessons).skipped == ("linear",)
    assert advise(FACTS, cheap).skipped == ()
    assert advise(FACTS, cheap).order == ("boosted", "linear")


def test_a_member_tried_twice_is_never_skipped() -> None:
    lessons = [lesson(name, boosted=1.0) for name in "abc"] + [lesson("d", boosted=1.0, network=0.0)] * 2
    assert "network" in advise(FACTS, lessons).order


def test_other_kinds_do_not_vote() -> None:
    lessons = [lesson(name, replace(FACTS, kind="regression"), boosted=1.0) for name in "abcdef"]
    assert advise(FACTS, lessons) == Advice()


def test_the_nearer_tables_outvote_the_farther() -> None:
    far = replace(FACTS, rows=10**6, numbers=900)
    lessons = [lesson(f"far{n}", far, linear=1.0, boosted=0.0) for n in range(9)]
    lessons += [lesson(f"near{n}", linear=0.0, boosted=1.0) for n in range(7)]
    assert advise(FACTS, lessons).order == ("boosted",)


FACTS_STRATEGY = st.builds(
    Facts,
    kind=st.sampled_from(["binary", "multiclass", "regression"]),
    rows=st.integers(1, 10**8),
    numbers=st.integers(0, 10**4),
    categories=st.integers(0, 10**3),
    classes=st.integers(1, 500),
    rarest=st.floats(0, 1),
    missing=st.floats(0, 1),
    levels=st.floats(0, 1e6),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FACTS_STRATEGY, FACTS_STRATEGY)
def test_distance_is_a_distance(one: Facts, other: Facts) -> None:
    assert distance(one, one) == 0
    assert distance(one, other) == distance(other, one)
    assert distance(one, other) >= 0
    assert math.isinf(distance(one, other)) == (one.kind != other.kind)


@given(FACTS_STRATEGY, st.lists(st.tuples(FACTS_STRATEGY, st.floats(0.001, 1e5)), max_size=6))
def test_forecasts_are_ordered_and_kept_under_the_budget(
    facts: Facts, past: list[tuple[Facts, float]]
) -> None:
    lessons = [Lesson(facts=item, members=(), cpu_s=cpu_s) for item, cpu_s in past]
    forecast = forecast_fit(facts, lessons, budget_s=60)
    assert 0 <= forecast.low <= forecast.cpu_s <= forecast.high <= 60


def test_the_forecast_learns_from_the_past_and_grows_surer() -> None:
    actual = 5 * first_guess(FACTS)
    cold = forecast_fit(FACTS, [], budget_s=1e9)
    lessons = [Lesson(facts=FACTS, members=(), cpu_s=actual)] * 12
    warm = forecast_fit(FACTS, lessons, budget_s=1e9)
    assert abs(warm.cpu_s - actual) < abs(cold.cpu_s - actual) / 2
    assert warm.high / warm.low < cold.high / cold.low
    assert warm.basis == 12


def test_an_order_is_surer_than_its_parts() -> None:
    part = forecast_fit(FACTS, [], budget_s=1e9)
    whole = total_of([part] * 100)
    assert math.isclose(whole.cpu_s, 100 * part.cpu_s)
    assert (whole.high - whole.cpu_s) / whole.cpu_s < (part.high - part.cpu_s) / part.cpu_s


def test_the_error_of_an_order_never_falls_below_what_its_fits_share() -> None:
    part = forecast_fit(FACTS, [], budget_s=1e9)
    whole = total_of([part] * 10_000)
    assert whole.low < 0.7 * whole.cpu_s
    assert whole.high > 1.4 * whole.cpu_s


def test_the_forecast_is_the_mean_of_what_fits_cost() -> None:
    """Fits cost four times the guess or a quarter of it, equally often: many cost more than as many medians."""
    guess = first_guess(FACTS)
    lessons = [Lesson(facts=FACTS, members=(), cpu_s=guess * factor) for factor in (0.25, 4.0) * 500]
    forecast = forecast_fit(FACTS, lessons, budget_s=1e9)
    assert math.isclose(forecast.cpu_s, guess * math.exp(0.5 * math.log(4) ** 2), rel_tol=0.01)


def test_rows_beyond_the_bound_cost_nothing_more() -> None:
    assert first_guess(replace(FACTS, rows=50_000)) == first_guess(replace(FACTS, rows=20_000))


def test_facts_and_lessons_are_read_off_a_task() -> None:
    schema = Schema(
        (
            Column(name="n", kind=ColumnKind.NUMBER, missing=5, distinct=50),
            Column(name="c", kind=ColumnKind.CATEGORY, distinct=4),
            Column(name="t", kind=ColumnKind.TEXT, distinct=90),
            Column(name="y", kind=ColumnKind.BOOLEAN, distinct=2),
        ),
        rows=100,
    )
    facts = facts_of(schema, ["n", "c", "t"], "binary", 80, [60, 20])
    assert (facts.numbers, facts.categories, facts.texts, facts.rarest, facts.levels) == (1, 1, 1, 0.25, 4)
    assert facts.missing == 5 / 300
    diagnostics = {
        "members": [
            {"name": "boosted", "oof_loss": 0.2, "cpu_s": 1.0, "weight": 0.8},
            {"name": "linear", "oof_loss": 0.3, "cpu_s": 0.1, "weight": 0.2},
            {"name": "broken", "oof_loss": float("nan"), "cpu_s": 0.1, "weight": 0},
            {"name": "skipped", "oof_loss": None, "cpu_s": 0, "weight": 0},
        ]
    }
    found = lesson_of(facts, diagnostics, 2.5, "demo")
    assert [(member.name, round(member.ratio, 3)) for member in found.members] == [
        ("boosted", 1),
        ("linear", 1.5),
    ]
    assert Lesson.from_json(found.to_json()) == found
