from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.transports.mqtt.window import MOST_IN_FLIGHT, Window
from edge_agent.transports.mqtt.wire import Address, Outgoing


def message(name: object) -> Outgoing:
    return Outgoing(address=Address(topic=str(name)), body=b"")


class Wire:
    """Numbers what is published; publishes nothing once it is `down`."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.down = False

    def publish(self, out: Outgoing) -> int | None:
        if self.down:
            return None
        self.sent.append(out.address.topic)
        return len(self.sent)


async def test_no_more_than_the_broker_takes_are_in_flight() -> None:
    wire = Wire()
    window = Window(wire.publish)
    window.narrow(2)

    waiting = [window.put(message(name)) for name in "abcd"]
    assert wire.sent == ["a", "b"]
    window.confirm(1, 0)
    await asyncio.sleep(0)

    assert wire.sent == ["a", "b", "c"]
    assert [future.done() for future in waiting] == [True, False, False, False]


async def test_the_end_of_the_connection_ends_every_wait() -> None:
    wire = Wire()
    window = Window(wire.publish)
    waiting = [window.put(message(number)) for number in range(MOST_IN_FLIGHT + 5)]

    window.close()
    late = window.put(message("late"))
    await window.idle()

    assert {future.result() for future in [*waiting, late]} == {None}


async def test_what_cannot_be_sent_is_not_confirmed() -> None:
    wire = Wire()
    wire.down = True

    confirmation = Window(wire.publish).put(message("a"))

    assert confirmation.result() is None


async def test_a_confirmation_of_something_unknown_changes_nothing() -> None:
    window = Window(Wire().publish)

    window.confirm(99, 0)

    await window.idle()


@given(st.integers(1, 8), st.lists(st.sampled_from(["put", "confirm"]), max_size=60))
def test_messages_leave_in_order_and_never_too_many(most: int, steps: list[str]) -> None:
    async def run() -> None:
        wire = Wire()
        window = Window(wire.publish)
        window.narrow(most)
        num_put = num_confirmed = 0
        for step in steps:
            if step == "put":
                window.put(message(num_put)).add_done_callback(lambda _: None)
                num_put += 1
            elif num_confirmed < len(wire.sent):
                num_confirmed += 1
                window.confirm(num_confirmed, 0)
            await asyncio.sleep(0)
            assert len(wire.sent) - num_confirmed <= most
            assert len(wire.sent) == min(num_put, num_confirmed + most)
        assert wire.sent == [str(number) for number in range(len(wire.sent))]

    asyncio.run(run())
