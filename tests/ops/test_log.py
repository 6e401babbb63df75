"""How records look, as text and as JSON."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.ops import log

if TYPE_CHECKING:
    from collections.abc import Iterator


def record(template: str, *args: object, name: str = "edge_agent.serving.router") -> Any:
    return logging.LogRecord(name, logging.INFO, __file__, 1, template, args, None)


def broken_record() -> logging.LogRecord:
    try:
        raise ValueError("boom")  # noqa: EM101, TRY301  # a trace is wanted
    except ValueError:
        trace = sys.exc_info()
    return logging.LogRecord("edge_agent.x", logging.ERROR, __file__, 1, "bug", (), trace)


@pytest.fixture
def root_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("edge_agent")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_text_is_words_and_then_fields() -> None:
    line = log.Text(stamp=False).format(record("request done id=%s new_tokens=%d", "r7", 12))
    assert line == "INFO router request done id=r7 new_tokens=12"


def test_a_stamp_is_utc_with_milliseconds() -> None:
    late = record("words")
    late.created = 1_700_000_000.25
    assert log.Text(stamp=True).format(late) == "2023-11-14T22:13:20.250Z INFO router words"


def test_an_id_cannot_forge_a_line_or_steer_the_terminal() -> None:
    line = log.Text(stamp=False).format(record("request done id=%s", "x\nERROR \x1b[2J\u2028\x85"))
    assert line == r"INFO router request done id=x\nERROR \x1b[2J\u2028\x85"


def test_json_takes_its_keys_from_the_template() -> None:
    line = json.loads(log.Json().format(record("request done id=%s ms=%.0f", "r 7", 3.7)))
    assert (line["message"], line["id"], line["ms"]) == ("request done", "r 7", 3.7)
    assert line["logger"] == "edge_agent.serving.router"


@pytest.mark.parametrize(
    ("template", "args", "message"),
    [
        ("plain", (), "plain"),
        ("%s of %d", ("1", 2), "1 of 2"),
        ("at 5%% k=%s", ("v",), "at 5% k=v"),
    ],
)
def test_json_of_another_template_is_all_message(
    template: str, args: tuple[object, ...], message: str
) -> None:
    line = json.loads(log.Json().format(record(template, *args)))
    assert line["message"] == message
    assert set(line) == {"time", "level", "logger", "message"}


def test_a_trace_is_kept_in_both_forms() -> None:
    broken = broken_record()
    assert "ValueError: boom" in log.Text(stamp=False).format(broken)
    assert "ValueError: boom" in json.loads(log.Json().format(broken))["trace"]


@pytest.mark.usefixtures("root_logging")
def test_under_systemd_lines_carry_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("info", "text", {"JOURNAL_STREAM": "8:1"})
    logging.getLogger("edge_agent.daemon").info("stopped")
    logging.getLogger("edge_agent.daemon").debug("too quiet")
    logging.getLogger("aiohttp.access").info("not ours")
    assert capsys.readouterr().err == "INFO daemon stopped\n"
