"""Pinned beginnings: made once, mapped after, made again if damaged; prompts start from them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

import msgspec
import numpy as np
import pytest

from edge_agent.daemon.pinned_prompts import write_pinned
from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.engine.kv_scales import write_kv_scales
from edge_agent.engine.pinned import Pinner, Shelf, read_pinned
from edge_agent.engine.prefix import Prefixes
from edge_agent.errors import InvalidRequest
from edge_agent.messages import Beginning, Tool
from edge_agent.modelstore.manifest import File
from edge_agent.modelstore.scales import SCALES
from tests.importers.tiny_decoder import CONTEXT, SHAPE, TinyDecoder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.modelstore.manifest import Manifest

SYSTEM = [(5 * i + 1) % 160 for i in range(20)]
CHUNK_TOKENS = 20


class FewWords:
    """Reads a system prompt as the tokens of SYSTEM, as many as it has letters, and tools."""

    def beginning(self, system: str, tools: tuple[Tool, ...]) -> list[int]:
        if system == "bad":
            msg = "the template has no place for it"
            raise InvalidRequest(msg, "messages")
        return SYSTEM[: len(system) + len(tools)]


class House:
    """A tiny engine's parts, started on `package`."""

    def __init__(self, package: Path, kv_dtype: KvDtype, manifest: Manifest | None = None) -> None:
        written, _ = TinyDecoder().write(package)
        self.manifest = manifest or written
        scales = np.full((SHAPE.layers, 2, SHAPE.kv_heads, SHAPE.head_dim), 8 / 127, np.float32)
        write_kv_scales(package / SCALES, SHAPE, scales)
        self.decoder = Decoder(
            package, self.manifest, slots=3, tokens=CONTEXT, threads=1, kv_dtype=kv_dtype
        )
        self.prefixes = Prefixes(
            num_slots=3, most_tokens=CONTEXT, budget_bytes=0, bytes_of=self.decoder.arena.bytes_of
        )
        self.shelf = Shelf(package, self.manifest, kv_dtype)

    def pin(self, *systems: str) -> None:
        self.pin_all(*(Beginning(name=f"p{n}", system=one) for n, one in enumerate(systems)))

    def pin_all(self, *beginnings: Beginning) -> None:
        Pinner(
            preparer=FewWords(),  # type: ignore[arg-type]
            decoder=self.decoder,
            prefixes=self.prefixes,
            shelf=self.shelf,
            context=80,
            chunk_tokens=CHUNK_TOKENS,
        ).pin(beginnings)

    def answer(self, prompt: list[int], *, offset: int = 0) -> tuple[int, NDArray[np.float32]]:
        """Return how many tokens of `prompt` were there, and its logits."""
        place = self.prefixes.place(np.asarray(prompt, np.int32), offset=offset)
        copy = self.prefixes.share(place.slot)
        if copy:
            self.decoder.arena.copy(copy.source, copy.target, start=copy.start, stop=copy.stop)
        known = len(self.prefixes.held(place.slot))
        logits = np.empty((0, 0), np.float32)
        for start in range(known, len(prompt), CHUNK_TOKENS):
            chunk = prompt[start : start + CHUNK_TOKENS]
            one = Row(
                slot=place.slot, past=start, tokens=chunk, num_logits=1, position_offset=offset
            )
            logits = self.decoder.forward([one])
        return known, logits.copy()


def files(package: Path) -> list[str]:
    return sorted(path.name for path in package.glob("pinned.*"))


@pytest.mark.parametrize("kv_dtype", KvDtype)
def test_a_prompt_starts_from_it_after_a_restart_too(
    tmp_path: Path, kv_dtype: KvDtype, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    prompt = [*SYSTEM, 7, 8, 9]
    _, alone = House(tmp_path, kv_dtype).answer(prompt)
    told = []
    for _ in range(2):
        house = House(tmp_path, kv_dtype)
        house.pin("x" * 20)
        known, logits = house.answer(prompt)
        assert known == 20
        assert np.array_equal(logits, alone)
        told.append(caplog.records[-1].getMessage().split()[-1])
    assert told == ["computed", "mapped"]
    assert len(files(tmp_path)) == 2  # for short and for long mode


def test_both_modes_have_keys_of_their_own(tmp_path: Path) -> None:
    prompt = [*SYSTEM, 7, 8, 9]
    plain = House(tmp_path, KvDtype.FP32)
    offset = plain.decoder.rope.long_offset
    _, alone = plain.answer(prompt, offset=offset)

    house = House(tmp_path, KvDtype.FP32)
    house.pin("x" * 20)
    known, logits = house.answer(prompt, offset=offset)

    assert known == 20
    assert np.array_equal(logits, alone)


@pytest.mark.parametrize("damage", ["numbers", "header", "cut", "empty", "foreign"])
def test_what_is_damaged_is_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    House(tmp_path, KvDtype.FP32).pin("x" * 20)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    for number, (name, content) in enumerate(before.items()):
        others = [other for key, other in before.items() if key != name]
        (tmp_path / name).write_bytes(
            {
                "numbers": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
                "header": b"\xff" + content[1:],
                "cut": content[:-1],
                "empty": b"",
                "foreign": others[number - 1],
            }[damage]
        )

    House(tmp_path, KvDtype.FP32).pin("x" * 20)

    assert "made again" in caplog.text
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_other_weights_and_caches_have_other_files(tmp_path: Path) -> None:
    plain, _ = TinyDecoder().write(tmp_path)
    other = msgspec.structs.replace(plain, files={"weights.bin": File(bytes=1, sha256="0" * 64)})
    keys = {
        House(tmp_path, kind, manifest).shelf.key(SYSTEM, offset)
        for kind in KvDtype
        for manifest in (plain, other)
        for offset in (0, 48)
    }
    assert len(keys) == 3 * 2 * 2


def test_scales_made_anew_make_other_files(tmp_path: Path) -> None:
    house = House(tmp_path, KvDtype.INT8)
    scales = np.full((SHAPE.layers, 2, SHAPE.kv_heads, SHAPE.head_dim), 0.1, np.float32)
    write_kv_scales(tmp_path / SCALES, SHAPE, scales)

    again = Shelf(tmp_path, house.manifest, KvDtype.INT8)

    assert again.key(SYSTEM, 0) != house.shelf.key(SYSTEM, 0)


def test_what_is_not_pinned_any_more_leaves_the_disk(tmp_path: Path) -> None:
    House(tmp_path, KvDtype.FP32).pin("x" * 20, "x" * 10)
    (tmp_path / "pinned.prepared.0.kv.unfinished").write_bytes(b"a crash left it")
    assert len(files(tmp_path)) == 5

    House(tmp_path, KvDtype.FP32).pin("x" * 10)
    assert len(files(tmp_path)) == 2

    House(tmp_path, KvDtype.FP32).pin()
    assert files(tmp_path) == []


@pytest.mark.parametrize(("system", "reason"), [("bad", "no place for it"), ("", "begin alike")])
def test_what_cannot_be_pinned_is_told_and_no_harm(
    tmp_path: Path, system: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path, KvDtype.FP32)
    house.pin(system, "x" * 12)

    assert reason in caplog.text
    assert house.answer([*SYSTEM, 7])[0] == 12


def test_tools_are_pinned_with_the_prompt(tmp_path: Path) -> None:
    house = House(tmp_path, KvDtype.FP32)
    tools = tuple(Tool(name=f"t{n}") for n in range(4))
    house.pin_all(Beginning(name="a", system="x" * 8, tools=tools))

    assert house.answer([*SYSTEM, 7])[0] == 12


def test_a_text_as_long_as_the_context_is_not_pinned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path, KvDtype.FP32)
    pinner = Pinner(
        preparer=FewWords(),  # type: ignore[arg-type]
        decoder=house.decoder,
        prefixes=house.prefixes,
        shelf=house.shelf,
        context=20,
        chunk_tokens=CHUNK_TOKENS,
    )
    pinner.pin([Beginning(name="long", system="x" * 20)])
    assert "20 tokens are more than the context of 20 leaves" in caplog.text


def test_a_disk_that_takes_nothing_costs_the_pin_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path, KvDtype.FP32)

    def full(_key: str, _strips: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(house.shelf, "put", full)
    house.pin("x" * 12)

    assert "No space left" in caplog.text
    assert house.answer([*SYSTEM, 7])[0] == 0


def test_the_engine_reads_the_list_that_the_daemon_writes(tmp_path: Path) -> None:
    all_pinned = (
        Beginning(name="a", system="Be brief."),
        Beginning(name="b", tools=(Tool(name="turn", parameters={"type": "object"}),)),
    )

    assert read_pinned(write_pinned(tmp_path, all_pinned)) == all_pinned
    assert read_pinned(None) == ()
