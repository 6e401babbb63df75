"""What happens to the engine at each level of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_agent.guard.memory import Memory
from edge_agent.guard.reading import Level
from edge_agent.messages import Policy
from edge_agent.ops.health import State
from edge_agent.serving.admission import Need
from edge_agent.serving.ledger import Ledger
from edge_agent.serving.steward import EASING_LOOKS, LEAST_RETRY_S, EngineNeeds, Steward
from edge_agent.worker.link import AS_CONFIGURED_BYTES
from edge_agent.worker.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable

GB = 1_000_000_000


class FakeWatch:
    """A guard that sees what it is told to see."""

    def __init__(self) -> None:
        self.level = Level.CALM
        self.reason = "400 MB available"
        self.retry_after_s = 120.0
        self.may_begin = True
        self.room_bytes: int | None = 1000
        self.memory: Memory | None = Memory(
            available_bytes=2 * GB, swift_bytes=GB, total_bytes=4 * GB, bound="machine"
        )
        self.kills = 0
        self._listener: Callable[[Level], None] = print
        self.is_short: Callable[[], None] = print
        self.look: Callable[[], None] = print

    def subscribe(self, listener: Callable[[Level], None]) -> None:
        self._listener = listener

    def subscribe_short(self, listener: Callable[[], None]) -> None:
        self.is_short = listener

    def subscribe_look(self, listener: Callable[[], None]) -> None:
        self.look = listener

    def engine_killed(self) -> None:
        self.kills += 1
        self.become(Level.CRITICAL)

    def become(self, level: Level) -> None:
        is_rise = level > self.level
        self.level = level
        self.may_begin = self.may_begin and not is_rise
        self._listener(level)
        if is_rise and level is Level.HARD:
            self.is_short()


class FakeSupervisor:
    """Takes notes of what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.on_oom: Callable[[str], None] | None = None
        self.kept_bytes = 0
        self.most_kept_bytes = -1

    def shrink_prefixes(self, to_bytes: int) -> None:
        self.most_kept_bytes = to_bytes

    def hold(self, reason: str, *, retry_after_s: float) -> None:
        self.done.append(f"hold {reason} {retry_after_s:.0f}")

    def release(self) -> None:
        self.done.append("release")

    def recall(self, reason: str, *, retry_after_s: float) -> int:
        self.done.append("recall")
        return 0

    def preempt(self, reason: str, *, retry_after_s: float) -> int:
        self.done.append(f"preempt {reason} {retry_after_s:.0f}")
        return 1


class Home:
    def __init__(self) -> None:
        self.watch = FakeWatch()
        self.supervisor = FakeSupervisor()
        self.standing = Standing(State.READY, "serving")
        self.ledger = Ledger()
        self.needs = EngineNeeds()
        self.steward = Steward(self.watch, self.supervisor, self.standing, self.ledger, self.needs)


@pytest.fixture
def home() -> Home:
    home = Home()
    home.steward.begin()
    return home


def test_memory_that_is_short_from_the_start_lets_no_engine_begin() -> None:
    home = Home()
    home.watch.level = Level.CRITICAL
    home.steward.begin()
    assert home.supervisor.done[0].startswith("hold memory is critical")


def test_what_is_kept_of_ended_requests_goes_first_and_may_come_again(home: Home) -> None:
    allowed = []
    for level in (Level.SOFT, Level.HARD, Level.SOFT, Level.CALM):
        home.watch.become(level)
        allowed.append(home.supervisor.most_kept_bytes)

    assert allowed == [0, 0, 0, 0]


def test_after_memory_was_short_kept_prefixes_come_back_within_half_of_the_room(home: Home) -> None:
    assert home.supervisor.most_kept_bytes == AS_CONFIGURED_BYTES
    home.watch.become(Level.SOFT)
    home.watch.look()
    assert home.supervisor.most_kept_bytes == 0

    home.watch.become(Level.CALM)
    allowed = []
    for kept, room in ((0, 1000), (400, 600), (700, None), (700, 0)):
        home.supervisor.kept_bytes, home.watch.room_bytes = kept, room
        home.watch.look()
        allowed.append(home.supervisor.most_kept_bytes)
    assert allowed == [500, 700, 700, 700]

    for _ in range(EASING_LOOKS - 4):
        assert home.supervisor.most_kept_bytes < AS_CONFIGURED_BYTES
        home.watch.look()
    assert home.supervisor.most_kept_bytes == AS_CONFIGURED_BYTES


def test_memory_that_is_short_again_begins_the_easing_anew(home: Home) -> None:
    for _ in range(2):
        home.watch.become(Level.SOFT)
        home.watch.become(Level.CALM)
        for _ in range(EASING_LOOKS - 1):
            home.watch.look()
        assert home.supervisor.most_kept_bytes < AS_CONFIGURED_BYTES


def test_what_can_be_given_back_is_room(home: Home) -> None:
    home.supervisor.kept_bytes = 300

    assert home.steward.look().room_bytes == 1300


def test_soft_takes_back_what_waits_and_leaves_alone_what_runs(home: Home) -> None:
    home.watch.become(Level.SOFT)
    home.watch.may_begin = True
    home.watch.become(Level.CALM)
    assert home.supervisor.done == ["recall"]


def test_hard_takes_one_request_back_and_says_why(home: Home) -> None:
    home.watch.become(Level.HARD)
    assert set(home.supervisor.done[:-1]) == {"recall"}
    assert home.supervisor.done[-1] == "preempt memory is hard: 400 MB available 120"


def test_as_long_as_memory_is_short_one_more_gives_way(home: Home) -> None:
    home.watch.become(Level.HARD)
    home.supervisor.done.clear()
    for _ in range(2):
        home.watch.is_short()
    assert [act.split()[0] for act in home.supervisor.done] == ["recall", "preempt"] * 2


def test_a_fall_takes_nothing_from_those_that_began_meanwhile(home: Home) -> None:
    home.watch.become(Level.HARD)
    home.supervisor.done.clear()
    home.watch.may_begin = True
    home.watch.become(Level.SOFT)
    assert home.supervisor.done == []


def test_critical_ends_the_engine_until_the_level_falls(home: Home) -> None:
    home.watch.retry_after_s = 0.0
    home.watch.become(Level.CRITICAL)
    home.watch.may_begin = True
    home.watch.become(Level.SOFT)
    home.watch.become(Level.CALM)
    hold = f"hold memory is critical: 400 MB available {LEAST_RETRY_S:.0f}"
    assert home.supervisor.done == [hold, "release"]


def test_falling_to_hard_lets_the_engine_back_and_takes_nothing_from_it(home: Home) -> None:
    home.watch.become(Level.CRITICAL)
    home.watch.become(Level.HARD)
    assert home.supervisor.done[1:] == ["release"]


def test_an_engine_that_the_kernel_killed_makes_it_critical_before_the_next(home: Home) -> None:
    assert home.supervisor.on_oom
    home.supervisor.on_oom("killed by SIGKILL, out of memory")
    assert home.watch.kills == 1
    assert home.supervisor.done[0].startswith("hold")


def test_the_house_is_as_guard_and_engine_are(home: Home) -> None:
    home.steward.context_tokens = 4096
    house = home.steward.look()
    assert (house.state, house.level, house.detail) == (State.READY, Level.CALM, "serving")
    assert (house.room_bytes, house.context_tokens) == (1000, 4096)


def test_what_is_promised_is_no_room(home: Home) -> None:
    need = Need(
        prompt_bytes=0, least_tokens=0, likely_tokens=0, needed_bytes=800, policy=Policy.LOCAL
    )
    with home.ledger.at_engine(need):
        assert home.steward.look().room_bytes == 200
        with home.ledger.at_engine(need):
            assert home.steward.look().room_bytes == 0


def test_what_the_first_request_takes_for_all_is_kept_for_it(home: Home) -> None:
    need = Need(
        prompt_bytes=0, least_tokens=0, likely_tokens=0, needed_bytes=0, policy=Policy.LOCAL
    )
    home.needs.shared_bytes = (0, 300, 350)
    assert home.steward.look().room_bytes == 650
    with home.ledger.at_engine(need) as entry:
        home.ledger.has_read(entry)
    assert home.steward.look().room_bytes == 950  # a second one at once has not been yet
    with home.ledger.at_engine(need) as one, home.ledger.at_engine(need) as other:
        home.ledger.has_read(one)
        home.ledger.has_read(other)
    assert home.steward.look().room_bytes == 1000
    home.standing.change(State.LOADING, "again")
    assert home.steward.look().room_bytes == 650


def test_what_can_ever_be_taken_is_what_the_engine_and_the_mark_leave(home: Home) -> None:
    home.needs.engine_bytes = GB
    assert home.steward.most_bytes == 4 * GB - int(0.15 * 4 * GB) - GB


def test_an_engine_comes_back_where_it_was_content_before(home: Home) -> None:
    home.needs.engine_bytes, home.needs.shared_bytes = 2 * GB, (0, GB)
    assert home.needs.load_bytes == 3 * GB
    home.standing.change(State.LOADING, "again")
    assert home.needs.load_bytes == 2 * GB  # what was available then
    home.watch.memory = None
    home.standing.change(State.READY, "")
    home.standing.change(State.LOADING, "and again")
    assert home.needs.load_bytes == 3 * GB


def test_a_machine_that_tells_nothing_limits_nothing(home: Home) -> None:
    home.watch.memory = home.watch.room_bytes = None
    house = home.steward.look()
    assert (house.room_bytes, house.most_bytes) == (None, None)
