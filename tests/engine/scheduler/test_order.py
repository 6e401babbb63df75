"""Who gets a slot: by priority, fairly, and in the end everybody."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.engine.scheduler.order import Claim, Moves, moves
from edge_agent.engine.scheduler.shares import Shares
from edge_agent.messages import Priority

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW
AGEING_S = 60.0


def claim(
    number: int, priority: Priority = NORMAL, client: str = "", waited_s: float = 0.0
) -> Claim:
    return Claim(number=number, priority=priority, client=client, waited_s=waited_s)


def moved(
    waiting: list[Claim],
    holding: list[Claim] | None = None,
    *,
    slots: int = 1,
    served: dict[str, float] | None = None,
) -> Moves:
    return moves(waiting, holding or [], slots=slots, served=served or {}, ageing_s=AGEING_S)


def admitted(*waiting: Claim, slots: int = 1) -> tuple[int, ...]:
    return moved(list(waiting), slots=slots).admit


def test_without_anybody_waiting_nothing_moves() -> None:
    assert moved([], [claim(0)]) == Moves()


def test_equals_go_in_the_order_in_which_they_came() -> None:
    assert admitted(claim(2), claim(0), claim(1), slots=2) == (0, 1)


def test_the_higher_priority_goes_first() -> None:
    assert admitted(claim(0, LOW), claim(1), claim(2, HIGH), slots=3) == (2, 1, 0)


def test_waiting_raises_a_priority_step_by_step() -> None:
    assert claim(0, LOW, waited_s=59.0).rank(ageing_s=AGEING_S) == 0
    assert claim(0, LOW, waited_s=60.0).rank(ageing_s=AGEING_S) == 1
    assert admitted(claim(1), claim(0, LOW, waited_s=60.0)) == (0,)


def test_the_client_with_fewer_slots_goes_first_then_the_less_served() -> None:
    many = [claim(number, client="many") for number in range(5)]
    one = claim(9, client="one")

    assert moved([*many, one], slots=3).admit == (0, 9, 1)
    served = {"many": 10.0, "one": 500.0}
    assert moved([*many[1:], one], [many[0]], slots=2, served=served).admit == (9,)
    assert moved([*many, one], slots=1, served=served).admit == (0,)
    assert moved([*many, one], slots=1, served={"many": 900.0, "one": 500.0}).admit == (9,)


def test_the_overdue_go_in_the_order_in_which_they_came_before_all_others() -> None:
    overdue = [claim(1, LOW, "busy", 200.0), claim(2, HIGH, "quiet", 90.0)]

    assert moved([claim(3, HIGH, "new"), *overdue], slots=3, served={"busy": 1e6}).admit == (
        1,
        2,
        3,
    )


def test_high_takes_the_slot_of_the_newest_low() -> None:
    holding = [claim(0, LOW), claim(1, NORMAL), claim(2, LOW), claim(3, HIGH)]

    assert moved([claim(4, HIGH)], holding, slots=4) == Moves(admit=(4,), preempt=(2,))
    waiting = [claim(number, HIGH) for number in range(4, 8)]
    assert moved(waiting, holding, slots=4) == Moves(admit=(4, 5), preempt=(2, 0))


def test_nobody_is_preempted_while_a_slot_is_free_or_for_less_than_high() -> None:
    assert moved([claim(4, HIGH)], [claim(0, LOW)], slots=2) == Moves(admit=(4,))
    assert moved([claim(4)], [claim(0, LOW)]) == Moves()
    assert moved([claim(4, LOW, waited_s=1e9)], [claim(0, LOW)]) == Moves()


def test_who_has_waited_long_enough_is_not_preempted_again() -> None:
    assert moved([claim(4, HIGH)], [claim(0, LOW, waited_s=60.0)]) == Moves()


CLAIMS = st.lists(
    st.builds(
        claim,
        st.integers(0, 40),
        st.sampled_from(Priority),
        st.sampled_from(["a", "b", "c"]),
        st.floats(0, 400),
    ),
    unique_by=lambda one: one.number,
    max_size=20,
)


@given(CLAIMS, st.integers(1, 6), st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e6)))
def test_slots_are_never_given_twice_or_left_free(
    claims: list[Claim], slots: int, served: dict[str, float]
) -> None:
    holding, waiting = claims[:slots], claims[slots:]
    done = moves(waiting, holding, slots=slots, served=served, ageing_s=AGEING_S)

    assert len(set(done.admit)) == len(done.admit)
    assert set(done.admit) <= {one.number for one in waiting}
    assert set(done.preempt) <= {one.number for one in holding if one.priority is LOW}
    holds = len(holding) - len(done.preempt) + len(done.admit)
    assert holds == min(slots, len(claims))
    assert holds >= len(holding)


@dataclass
class Sim:
    """Slots on a clock: every request holds one for its work, and is told of all it waited."""

    slots: int
    now_s: float = 0.0
    work_s: dict[int, float] = field(default_factory=dict)
    claims: dict[int, Claim] = field(default_factory=dict)
    waited_s: Counter[int] = field(default_factory=Counter)
    ahead: dict[int, int] = field(default_factory=dict)
    holding: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    shares: Shares = field(default_factory=Shares)
    preemptions: int = 0

    def arrive(self, work_s: float, priority: Priority, client: str) -> None:
        number = len(self.claims)
        self.ahead[number] = len(self.holding) + len(self.waiting)
        self.claims[number] = claim(number, priority, client)
        self.work_s[number] = work_s
        self.waiting.append(number)
        self.shares.arrive(client)

    def claim(self, number: int) -> Claim:
        known = self.claims[number]
        return claim(number, known.priority, known.client, self.waited_s[number])

    def tick(self) -> None:
        """Give slots, then let a second pass."""
        done = moves(
            [self.claim(number) for number in self.waiting],
            [self.claim(number) for number in self.holding],
            slots=self.slots,
            served=self.shares.served,
            ageing_s=AGEING_S,
        )
        self.preemptions += len(done.preempt)
        gone, come = set(done.preempt), set(done.admit)
        self.holding = [n for n in self.holding if n not in gone] + list(done.admit)
        self.waiting = [n for n in self.waiting if n not in come] + list(done.preempt)
        for number in self.waiting:
            self.waited_s[number] += 1
        for number in list(self.holding):
            self.work_s[number] -= 1
            self.shares.charge(self.claims[number].client, 1)
            if self.work_s[number] <= 0:
                self.holding.remove(number)
                self.ended.append(number)
                self.shares.leave(self.claims[number].client)


MOST_WORK_S = 20


@given(
    slots=st.integers(1, 3),
    crowd=st.lists(
        st.tuples(st.integers(1, MOST_WORK_S), st.sampled_from(Priority), st.sampled_from("abc")),
        max_size=12,
    ),
    flood=st.lists(
        st.tuples(st.integers(1, MOST_WORK_S), st.sampled_from([HIGH, HIGH, LOW])), min_size=1
    ),
    queue=st.integers(1, 8),
)
@settings(deadline=None)
def test_nobody_starves_however_many_urgent_ones_come(
    slots: int,
    crowd: list[tuple[int, Priority, str]],
    flood: list[tuple[int, Priority]],
    queue: int,
) -> None:
    """New clients with urgent requests fill the queue in every second of ten minutes."""
    sim = Sim(slots=slots)
    for work_s, priority, client in crowd:
        sim.arrive(work_s, priority, client)
    for second in range(600):
        while len(sim.waiting) < queue:
            work_s, priority = flood[len(sim.claims) % len(flood)]
            sim.arrive(work_s, priority, f"flood-{second}")
        sim.tick()
    while sim.holding or sim.waiting:
        sim.tick()

    assert sorted(sim.ended) == list(range(len(sim.claims)))
    for number in sim.claims:
        # Overdue after three ageings; then those that were there before it, one slot at worst.
        assert sim.waited_s[number] <= 3 * AGEING_S + (sim.ahead[number] + 1) * MOST_WORK_S


@given(
    slots=st.integers(1, 4),
    works=st.lists(st.integers(1, MOST_WORK_S), min_size=2, max_size=4),
    depths=st.lists(st.integers(1, 20), min_size=4, max_size=4),
)
@settings(deadline=None)
def test_clients_that_always_want_more_get_equal_shares(
    slots: int, works: list[int], depths: list[int]
) -> None:
    """Each keeps so many requests inside, of a length of its own, for as long as ageing allows."""
    sim = Sim(slots=slots)
    wanting = list(zip("abcd", works, depths, strict=False))
    for _ in range(int(AGEING_S) - 1):  # beyond, age counts and not shares
        for client, work_s, depth in wanting:
            inside = [n for n in (*sim.holding, *sim.waiting) if sim.claims[n].client == client]
            for _ in range(max(depth, slots) - len(inside)):
                sim.arrive(work_s, NORMAL, client)
        sim.tick()

    least, most = (f(sim.shares.served[client] for client, _, _ in wanting) for f in (min, max))
    # Who was given a slot keeps it: for each slot one request may be under way.
    assert most - least <= 2 * slots * MOST_WORK_S
