"""Who leaves a full memory: the policy as a pure machine."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from modelworks.serving.eviction import SLACK_BYTES, GreedyDual, SizeGuess


@dataclass(eq=False)
class Item:
    hits: float = 0.0
    cost_s: float = 0.01
    memory_bytes: int = 1_000_000
    clock: float = 0.0


items = st.builds(
    Item,
    hits=st.floats(0, 1e6),
    cost_s=st.floats(0, 100),
    memory_bytes=st.integers(0, 10**10),
    clock=st.floats(0, 1e3),
)


@given(st.lists(items, max_size=30))
def test_the_order_is_by_worth_and_loses_nobody(models: list[Item]) -> None:
    policy = GreedyDual()
    order = policy.order(models)
    assert sorted(map(id, order)) == sorted(map(id, models))
    worths = [policy.worth(item) for item in order]
    assert worths == sorted(worths)


@given(st.lists(st.integers(0, 7), max_size=200), st.integers(1, 7))
def test_the_clock_never_runs_back_and_what_was_just_used_outlives_an_equal_that_was_not(
    acts: list[int], room: int
) -> None:
    """A cache of ``room`` equal models, driven by uses: the policy against its own promises."""
    policy, known = GreedyDual(), [Item() for _ in range(8)]
    inside: list[Item] = []
    for number in acts:
        item, clock = known[number], policy.clock
        policy.used(item)
        if item not in inside:
            while len(inside) >= room:
                leaving = policy.order(inside)[0]
                assert all(policy.worth(leaving) <= policy.worth(other) for other in inside)
                inside.remove(leaving)
                policy.left(leaving)
            inside.append(item)
        assert policy.clock >= clock
        # What came or was used now is worth more than the clock: it does not leave before one whose worth is below.
        assert item.clock <= policy.clock and policy.worth(item) >= item.clock


@given(items, st.floats(1.01, 100))
def test_a_use_a_dearer_load_or_a_smaller_size_never_lower_the_worth(model: Item, factor: float) -> None:
    policy = GreedyDual()
    before = policy.worth(model)
    for change in (
        Item(model.hits + 1, model.cost_s, model.memory_bytes, model.clock),
        Item(model.hits, model.cost_s * factor, model.memory_bytes, model.clock),
        Item(model.hits, model.cost_s, int(model.memory_bytes / factor), model.clock),
        Item(model.hits, model.cost_s, model.memory_bytes, model.clock + factor),
    ):
        assert policy.worth(change) >= before


def test_one_that_was_dear_once_ages_out() -> None:
    policy = GreedyDual()
    dear = Item(hits=1, cost_s=1.0)
    for _ in range(10_000):
        cheap = Item(cost_s=0.01)
        policy.used(cheap)
        leaving = policy.order([dear, cheap])[0]
        policy.left(leaving)
        if leaving is dear:
            return
    raise AssertionError("it never left")


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**10)), max_size=50), st.integers(0, 10**9))
def test_a_guess_keeps_room_and_follows_what_was_seen(seen: list[tuple[int, int]], size: int) -> None:
    guess = SizeGuess()
    for graph, memory in seen:
        before = guess.times
        guess.learn(graph, memory)
        times = min(20.0, memory / graph)
        assert min(before, times) <= guess.times <= max(before, times)
    assert guess.of(size) >= SLACK_BYTES
    assert guess.of(size) - SLACK_BYTES <= 20 * size
