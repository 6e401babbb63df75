"""Whole characters only, and no beginning of a stop string is ever shown."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.text.stream import TextStream


def feed_all(stream: TextStream, pieces: list[bytes]) -> list[str]:
    shown = []
    for piece in pieces:
        shown.append(stream.feed(piece))
        if stream.stopped_by is not None:
            break
    return shown


def test_a_character_cut_by_tokens_appears_whole() -> None:
    stream = TextStream()
    data = "a👍b".encode()

    assert [stream.feed(bytes([byte])) for byte in data] == ["a", "", "", "", "👍", "b"]


def test_a_character_cut_by_the_end_is_dropped() -> None:
    stream = TextStream()

    assert stream.feed("ok👍".encode()[:4]) == "ok"
    assert stream.finish() == ""


def test_bytes_that_are_no_character_become_a_replacement_character() -> None:
    assert TextStream().feed(b"a\xffb") == "a\ufffdb"


def test_a_stop_string_over_three_tokens_is_not_shown() -> None:
    stream = TextStream(["STOP"])

    assert feed_all(stream, [b"go S", b"TO", b"P on"]) == ["go ", "", ""]
    assert stream.stopped_by == "STOP"
    assert stream.finish() == ""


def test_a_false_beginning_of_a_stop_string_is_shown_later() -> None:
    stream = TextStream(["STOP"])

    assert feed_all(stream, [b"ST", b"ART"]) == ["", "START"]


def test_what_was_held_back_comes_with_the_end() -> None:
    stream = TextStream(["\n\n"])

    assert stream.feed(b"line\n") == "line"
    assert stream.finish() == "\n"


def test_the_stop_string_that_is_complete_first_wins() -> None:
    stream = TextStream(["abcd", "bc"])

    assert stream.feed(b"xabc") == "xa"
    assert stream.stopped_by == "bc"


def test_a_stop_string_that_ends_too_early_is_text() -> None:
    stream = TextStream(["ab", "b"])

    assert stream.feed(b"xaby", may_stop=False) == "xaby"
    assert stream.feed(b"zab") == "z"
    assert stream.stopped_by == "ab"


def test_a_stop_string_may_begin_too_early() -> None:
    stream = TextStream(["STOP", "T"])

    assert stream.feed(b"a ST", may_stop=False) == "a "
    assert stream.feed(b"O") == ""  # that T was too early
    assert stream.feed(b"P") == ""
    assert stream.stopped_by == "STOP"


def test_characters_are_counted_when_they_are_whole() -> None:
    stream = TextStream(["STOP"])

    stream.feed("aß".encode()[:2])
    assert (stream.num_chars, stream.num_held) == (1, 0)
    stream.feed("aß".encode()[2:] + b"ST")
    assert (stream.num_chars, stream.num_held) == (4, 2)


@given(text=st.text(max_size=60), data=st.data())
def test_any_cut_gives_the_same_text(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    stream = TextStream()

    assert "".join(feed_all(stream, pieces)) + stream.finish() == text


@given(
    text=st.text(alphabet="ab", max_size=30),
    stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_shown_text_ends_before_the_stop_string_that_completes_first(
    text: str, stops: list[str]
) -> None:
    stream = TextStream(stops)
    shown = "".join(feed_all(stream, [char.encode() for char in text]))

    ends = {at + len(s): s for s in stops if (at := text.find(s)) >= 0}
    if not ends:
        assert stream.stopped_by is None
        assert shown + stream.finish() == text
    else:
        assert stream.stopped_by is not None
        completed_at = min(ends)
        assert shown + stream.stopped_by == text[:completed_at]
