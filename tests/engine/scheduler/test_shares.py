"""What was computed for whom, and that rest saves up nothing."""

from edge_agent.engine.scheduler.shares import _MOST_CLIENTS, Shares


def test_tokens_are_counted_by_client() -> None:
    shares = Shares()
    for client in ("a", "b", "a"):
        shares.arrive(client)
    shares.charge("a", 10)
    shares.charge("a", 5)

    assert shares.served == {"a": 15, "b": 0}


def test_who_comes_late_or_back_begins_where_the_least_served_is() -> None:
    shares = Shares()
    for client in ("a", "b", "rested"):
        shares.arrive(client)
    shares.leave("rested")
    shares.charge("a", 1000)
    shares.charge("b", 700)
    for client in ("new", "rested"):
        shares.arrive(client)

    assert shares.served == {"a": 1000, "b": 700, "new": 700, "rested": 700}


def test_who_leaves_and_comes_back_has_lost_nothing_of_its_bill() -> None:
    shares = Shares()
    shares.arrive("a")
    shares.arrive("b")
    shares.charge("a", 1000)
    shares.leave("a")
    shares.arrive("a")

    assert shares.served == {"a": 1000, "b": 0}


def test_nothing_is_remembered_when_nobody_is_there() -> None:
    shares = Shares()
    shares.arrive("a")
    shares.charge("a", 1000)
    shares.leave("a")

    assert shares.served == {}


def test_a_crowd_that_passes_by_is_forgotten() -> None:
    shares = Shares()
    shares.arrive("stays")
    for number in range(3 * _MOST_CLIENTS):
        shares.arrive(str(number))
        shares.leave(str(number))

    assert len(shares.served) <= _MOST_CLIENTS
