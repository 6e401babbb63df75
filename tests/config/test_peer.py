"""The section `peers`: what stands there can be meant, and is told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from edge_agent.config import load
from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

RACK: dict[str, object] = {
    "name": "rack",
    "kind": "openai",
    "url": "http://192.0.2.20:8000",
    "model": "phi-4-mini",
    "zone": "cloud",
}


def write(path: Path, *peers: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump({"peers": list(peers)}))
    return path


def test_a_peer_needs_five_keys(tmp_path: Path) -> None:
    peer = load(write(tmp_path / "c.yaml", {**RACK}), {}).peers[0]

    assert (peer.name, peer.kind, peer.zone, peer.priority) == ("rack", "openai", "cloud", 0)
    assert (peer.connect_timeout_s, peer.first_byte_timeout_s, peer.idle_timeout_s) == (2, 60, 30)


def test_peers_can_come_from_the_environment() -> None:
    text = "[{name: a, kind: ollama, url: 'http://[fd00::1]:11434', model: m, zone: site}]"
    assert load(None, {"EDGE_AGENT_PEERS": text}).peers[0].url == "http://[fd00::1]:11434"


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.20:8000",
        "https://llm.example.org",
        "https://llm.example.org/behind/a/proxy",
        "http://localhost:11434/",
    ],
)
def test_a_url_may_be(tmp_path: Path, url: str) -> None:
    assert load(write(tmp_path / "c.yaml", {**RACK, "url": url}), {}).peers[0].url == url


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "192.0.2.20:8000"}, "must be http"),
        ({"url": "ftp://192.0.2.20"}, "must be http"),
        ({"url": "http://"}, "must be http"),
        ({"url": "http://h:0"}, "must be http"),
        ({"url": "http://h:99999"}, "cannot be read"),
        ({"url": "http://[::1"}, "cannot be read"),
        ({"url": "http://u:p@h"}, "api_key_file"),
        ({"url": "http://h?key=1"}, "must be http"),
        ({"url": "http://h/\n"}, "must be http"),
        ({"url": "http://h/v1"}, "before /v1"),
        ({"url": "http://h/api/"}, "before /v1"),
        ({"name": "local"}, "gateway itself"),
        ({"name": "Rack 1"}, "name"),
        ({"zone": "moon"}, "zone"),
        ({"kind": "grpc"}, "kind"),
        ({"colour": "red"}, "colour"),
        ({"max_concurrent": 0}, "max_concurrent"),
    ],
)
def test_a_peer_that_cannot_be_meant_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(write(tmp_path / "c.yaml", {**RACK, **change}), {})


def test_names_are_unique(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two peers are called 'rack'"):
        load(write(tmp_path / "c.yaml", RACK, RACK), {})


def test_there_are_sixteen_at_most(tmp_path: Path) -> None:
    many = [{**RACK, "name": f"p{number}"} for number in range(17)]
    with pytest.raises(ConfigError, match="peers"):
        load(write(tmp_path / "c.yaml", *many), {})
