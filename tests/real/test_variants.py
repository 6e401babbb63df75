"""A variant is one YAML file: served by its base, with manners of its own."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from tests.daemon_process import Served, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

BASE, VARIANT = "smollm2-135m-instruct", "smollm2-pirate"
CARD = f"""\
name: {VARIANT}
title: SmolLM2 at sea
variant_of: {BASE}
system_prompt: Arr.
sampling: {{temperature: 0}}
"""
QUESTION = "What is the capital of France?"


def prompt_tokens(daemon: Served, **fields: object) -> int:
    status, body = daemon.ask(QUESTION, max_tokens=1, **fields)
    assert status == 200, body
    counted: int = body["usage"]["prompt_tokens"]
    return counted


def test_a_users_variant_is_served_beside_its_base(model_home: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(model_home / "models")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / f"{VARIANT}.yaml").write_text(CARD)

    serve = [sys.executable, "-m", "edge_agent", "serve"]
    with serving(serve, tmp_path, EDGE_AGENT_MODEL=VARIANT) as daemon:
        daemon.wait_ready()
        with urlopen(f"{daemon.url}/v1/models") as answer:  # noqa: S310  # our own daemon
            listed: dict[str, Any] = json.load(answer)
        unnamed, named = prompt_tokens(daemon), prompt_tokens(daemon, model=VARIANT)
        base = prompt_tokens(daemon, model=BASE)
        refused = daemon.ask(QUESTION, model="huge")

    assert [model["id"] for model in listed["data"]] == [VARIANT, BASE]
    assert unnamed == named
    assert named < base  # "Arr." in the place of the long message that the template brings
    assert refused[1]["error"]["code"] == "model_not_found"
