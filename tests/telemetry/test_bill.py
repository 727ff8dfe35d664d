"""The bill: totals equal the sum of attempts, exactly, however the work was shared."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworks.core.job import Attempt, Usage
from modelworks.telemetry.ledger import (
    SHARED,
    Bill,
    Prices,
    amortise,
    by_step,
    learning_curve,
    total,
    with_people,
)

SECONDS = st.floats(0, 1e6, allow_nan=False)
USAGES = st.builds(
    Usage,
    cpu_s=SECONDS,
    wall_s=SECONDS,
    gpu_s=SECONDS,
    energy_j=SECONDS,
    peak_mb=SECONDS,
    energy_source=st.sampled_from(["rapl", "declared"]),
)
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])
LABELS = st.sampled_from(["", "a", "b", "c", "d", "e", "f", "g"])
ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        id=st.uuids().map(str),
        run=st.just("run"),
        step=st.sampled_from(["fit", "split"]),
        key=KEYS,
        label=LABELS,
        status=st.sampled_from(["done", "failed", "cancelled", "lost"]),
        usage=USAGES,
    ),
    max_size=20,
)
SUMMED = ("cpu_us", "wall_us", "gpu_us", "human_us", "energy_uj", "measured_uj")


@given(ATTEMPTS, st.lists(st.tuples(KEYS, LABELS), max_size=20))
def test_parts_add_up_to_the_attempts_exactly(attempts: list[Attempt], uses: list[tuple[str, str]]) -> None:
    whole = total(attempts)
    assert whole.cpu_us == sum(round(Fraction(item.usage.cpu_s * 1_000_000)) for item in attempts)
    assert whole.failed == sum(item.status != "done" for item in attempts)
    for parts in (by_step(attempts).values(), amortise(attempts, uses).values()):
        summed = sum(parts, Bill())
        for name in SUMMED:
            assert getattr(summed, name) == getattr(whole, name)
        assert summed.peak_mb == whole.peak_mb


@given(ATTEMPTS, st.lists(st.tuples(KEYS, LABELS), max_size=20))
def test_shares_are_even_and_go_to_users_only(attempts: list[Attempt], uses: list[tuple[str, str]]) -> None:
    users: dict[str, set[str]] = {}
    for key, label in uses:
        users.setdefault(key, set()).add(label)
    for attempt in attempts:
        bills = amortise([attempt], uses)
        expected = users.get(attempt.key) or {attempt.label or SHARED}
        assert set(bills) == expected
        shares = [bill.cpu_us for bill in bills.values()]
        assert max(shares) - min(shares) <= 1


def attempt(key: str, cpu_s: float, *, label: str = "", status: str = "done", step: str = "fit") -> Attempt:
    usage = Usage(cpu_s=cpu_s, wall_s=cpu_s, energy_j=10 * cpu_s, energy_source="declared", peak_mb=cpu_s)
    return Attempt(id=f"{key}{cpu_s}", run="r", step=step, key=key, label=label, status=status, usage=usage)


def test_shared_work_is_divided_and_failed_work_is_paid_by_who_asked() -> None:
    attempts = [
        attempt("ingest", 9.0),
        attempt("fit-a", 1.0),
        attempt("fit-b", 2.0, label="b", status="failed"),
    ]
    bills = amortise(attempts, [("ingest", "a"), ("ingest", "b"), ("ingest", "c"), ("fit-a", "a")])
    assert {label: bill.cpu_s for label, bill in bills.items()} == {"a": 4.0, "b": 5.0, "c": 3.0}
    assert bills["b"].failed == 1
    assert bills["a"].energy_source == "declared"


def test_money_is_the_price_list_times_the_amounts() -> None:
    bill = Bill(cpu_us=3600 * 10**6, gpu_us=1800 * 10**6, human_us=360 * 10**6, energy_uj=3_600_000 * 10**6)
    prices = Prices(cpu_hour=0.04, gpu_hour=2.0, kwh=0.3, human_hour=60.0, currency="CHF")
    assert bill.money(prices) == pytest.approx(0.04 + 1.0 + 0.3 + 6.0)
    data = bill.to_json(prices)
    assert (data["currency"], data["cpu_s"], data["energy_j"]) == ("CHF", 3600.0, 3_600_000.0)
    assert "money" not in bill.to_json()


@given(st.lists(st.tuples(st.integers(0, 10**9), st.booleans()), min_size=1))
def test_the_source_of_energy_is_not_overstated(parts: list[tuple[int, bool]]) -> None:
    bill = sum((Bill(energy_uj=amount, measured_uj=amount * is_read) for amount, is_read in parts), Bill())
    measured = sum(amount for amount, is_read in parts if is_read)
    declared = sum(amount for amount, is_read in parts if not is_read)
    expected = {
        (False, False): "none",
        (True, False): "rapl",
        (False, True): "declared",
        (True, True): "mixed",
    }
    assert bill.energy_source == expected[measured > 0, declared > 0]


def test_people_and_the_learning_curve() -> None:
    bills = with_people(amortise([attempt("k", 4.0, label="a")], []), [("a", 30.0), ("b", 10.0)])
    assert bills["a"].human_s == 30.0
    assert bills["b"].human_s == 10.0
    curve = learning_curve(["a", "b"], bills)
    assert [(point["n"], point["cpu_s"], point["mean_cpu_s"]) for point in curve] == [
        (1, 4.0, 4.0),
        (2, 0.0, 2.0),
    ]
