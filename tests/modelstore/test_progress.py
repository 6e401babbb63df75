"""How a transfer is told to terminals, logs and programs."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.modelstore.progress import Meter, Progress, Sample, Stage, bar, json_line, sentence

MB = 1_000_000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def sample(done_bytes: int, total_bytes: int = 100 * MB, **facts: float) -> Sample:
    return Sample(
        stage=Stage.DOWNLOAD,
        done_bytes=done_bytes,
        total_bytes=total_bytes,
        bytes_per_s=facts.get("bytes_per_s"),
        eta_s=facts.get("eta_s"),
    )


def test_speed_is_that_of_the_last_seconds() -> None:
    meter = Meter(Stage.DOWNLOAD, 100 * MB)
    first = meter.look(0, 0.0)
    for second in range(1, 11):
        meter.look(5 * MB * second, float(second))

    latest = meter.look(50 * MB + 100, 60.0)  # it has stalled for long

    assert (first.bytes_per_s, first.eta_s) == (None, None)
    assert latest.bytes_per_s == pytest.approx(100 / 50, rel=0.1)
    assert latest.eta_s == pytest.approx(25 * MB, rel=0.1)


@pytest.mark.parametrize("moment_s", [0.0, 5e-324, 0.01])
def test_a_moment_tells_no_speed(moment_s: float) -> None:
    meter = Meter(Stage.DOWNLOAD, 100 * MB)
    meter.look(0, 0.0)

    assert meter.look(MB, moment_s).bytes_per_s is None


def test_time_left_is_what_is_left_over_the_speed() -> None:
    meter = Meter(Stage.DOWNLOAD, 100 * MB)
    meter.look(0, 0.0)

    assert meter.look(20 * MB, 2.0).eta_s == 8.0


@given(
    st.lists(st.tuples(st.integers(0, 1 << 40), st.floats(0, 1e6)), min_size=1, max_size=20),
    st.integers(0, 1 << 40),
    st.integers(1, 300),
)
def test_whatever_is_seen_can_be_shown(
    looks: list[tuple[int, float]], total_bytes: int, columns: int
) -> None:
    meter = Meter(Stage.IMPORT, total_bytes)
    now_s = 0.0
    for done_bytes, passed_s in looks:
        now_s += passed_s
        seen = meter.look(done_bytes, now_s)

        assert 0 <= seen.fraction <= 1
        assert seen.eta_s is None or seen.eta_s >= 0
        assert len(bar(seen, columns)) < columns
        assert "%" in sentence(seen)
        assert msgspec.json.decode(json_line(seen), type=Sample).done_bytes == done_bytes


def test_a_bar_tells_bytes_speed_and_time_left() -> None:
    seen = sample(42 * MB, bytes_per_s=7.5 * MB, eta_s=67.2)

    assert bar(seen, 100) == (
        "download [##########..............]  42%   42.0/100.0 MB    7.5 MB/s 1:07 left"
    )
    assert sentence(seen) == "download 42%, 42.0 of 100.0 MB, 7.5 MB/s, 1:07 left"


def run(progress: Progress, clock: Clock, *, seconds: int) -> None:
    show = progress.stage(Stage.DOWNLOAD, seconds * MB)
    for tenth in range(seconds * 10 + 1):
        show(tenth * MB // 10)
        clock.now_s += 0.1
    show(seconds * MB)


def test_a_terminal_gets_one_line_that_is_drawn_again() -> None:
    clock, people = Clock(), Terminal()
    progress = Progress(people, clock=clock)

    run(progress, clock, seconds=10)
    progress.say("ready")

    drawn, ready, rest = people.getvalue().split("\n")
    assert drawn.count("\r") > 20
    assert "100%" in drawn.rsplit("\r", 1)[-1]
    assert (ready, rest) == ("ready", "")


@pytest.mark.parametrize(("seconds", "least", "most"), [(100, 20, 25), (10, 6, 11), (1, 1, 2)])
def test_a_log_gets_a_line_now_and_then(seconds: int, least: int, most: int) -> None:
    clock, people = Clock(), io.StringIO()

    run(Progress(people, clock=clock), clock, seconds=seconds)

    lines = people.getvalue().splitlines()
    assert least <= len(lines) <= most
    assert lines[-1].startswith("download 100%")
    assert sum("100%" in line for line in lines) == 1


def test_a_stalled_transfer_goes_on_telling_so() -> None:
    clock, people = Clock(), io.StringIO()
    show = Progress(people, clock=clock).stage(Stage.DOWNLOAD, MB)

    for _ in range(60):
        show(1000)
        clock.now_s += 1

    assert 10 <= len(people.getvalue().splitlines()) <= 13


def test_programs_get_json_lines_and_people_theirs() -> None:
    clock, people, programs = Clock(), io.StringIO(), io.StringIO()

    run(Progress(people, programs, clock), clock, seconds=5)

    told = list(map(json.loads, programs.getvalue().splitlines()))
    assert {tuple(line) for line in told} == {
        ("stage", "done_bytes", "total_bytes", "bytes_per_s", "eta_s")
    }
    assert [line["done_bytes"] for line in told if line["done_bytes"] == 5 * MB] == [5 * MB]
    assert "download" in people.getvalue()


def test_a_reader_that_left_is_an_error() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    show = Progress(io.StringIO(), Gone()).stage(Stage.VERIFY, MB)

    with pytest.raises(BrokenPipeError):
        show(MB)
