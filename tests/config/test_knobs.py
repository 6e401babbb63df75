"""Every key is told of: by its path, its default and a line of help."""

from __future__ import annotations

from edge_agent.config import Config, knobs


def test_every_key_of_every_section_is_there_once() -> None:
    by_path = {knob.path: knob for knob in knobs()}

    assert len(by_path) == len(list(knobs()))
    assert by_path["model"].default == Config().model
    assert by_path["http.max_body_bytes"].default == Config().http.max_body_bytes
    assert by_path["engine.stall_limit_s"].help.endswith("the engine is killed, s")
    assert {path.partition(".")[0] for path in by_path} == set(Config.__struct_fields__)


def test_every_key_has_its_own_help_and_not_that_of_its_type() -> None:
    assert [knob.path for knob in knobs() if not knob.help] == []
