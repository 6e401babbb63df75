"""One small Phi-3 through all three doors: the same greedy text, which is that of transformers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import pytest

from edge_agent.engine.engine import Engine
from edge_agent.importers import package
from edge_agent.importers.doors import open_model
from edge_agent.messages import Delta, Message, Request, Role, Sampling
from edge_agent.modelstore.card import Precision
from edge_agent.text.tokenizer import Tokenizer
from tests.importers.tiny_hf import CONTEXT, TinyHf
from tests.real.doors import phi3_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.doors.phi3_gguf import Kind

pytestmark = pytest.mark.real

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text())
GENAI = Path(__file__).parent.parent / "genai" / "phi3-int4.zip"


def hugging_face(directory: Path) -> Path:
    TinyHf().write(directory)
    return directory


def gguf_file(kind: Kind) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        weights = TinyHf().write(directory)
        phi3_gguf.write(directory / "model.gguf", weights, kind)
        return directory / "model.gguf"

    return write


def genai_package(directory: Path) -> Path:
    with zipfile.ZipFile(GENAI) as archive:
        archive.extractall(directory)
    return directory


FLOATS = Precision(bits=32)
NIBBLES = Precision(bits=4, block=32, head_bits=4, activations="exact")
AS_STORED = Precision(activations="exact")
KINDS = gguf.GGMLQuantizationType


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((hugging_face, FLOATS), id="hf-floats"),
        pytest.param((hugging_face, NIBBLES), id="hf-int4"),
        pytest.param((gguf_file(KINDS.F32), FLOATS), id="gguf-f32-floats"),
        pytest.param((gguf_file(KINDS.BF16), NIBBLES), id="gguf-bf16-int4"),
        pytest.param((gguf_file(KINDS.Q4_0), AS_STORED), id="gguf-q4_0"),
        pytest.param((genai_package, AS_STORED), id="genai-int4"),
    ],
)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The engine on a package that came through one of the doors."""
    write, asked = request.param
    source, target = write(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("home")
    label = package.Label(name="tiny", family="phi3", licence="none", origin="a test")
    with open_model(source) as model:
        package.write(model, label, asked, target / "tiny")
    engine = Engine(
        target / "tiny", slots=1, context=CONTEXT, chunk_tokens=16, threads=1, queue_requests=1
    )
    yield engine
    engine.close()


def test_no_answer_of_the_reference_holds_a_near_tie() -> None:
    # Kernels sum in different orders, which moves logits by some hundred-thousandths.
    assert min(lead for expected in REFERENCE for lead in expected["leads"]) > 0.01


@pytest.mark.parametrize("expected", REFERENCE, ids=lambda expected: expected["prompt"][:12])
def test_every_door_gives_the_text_of_transformers(
    engine: Engine, expected: dict[str, object], tmp_path: Path
) -> None:
    tokens = expected["tokens"]
    assert isinstance(tokens, list)
    TinyHf().write(tmp_path)
    words = Tokenizer.load(tmp_path / "tokenizer.json")
    message = Message(role=Role.USER, content=str(expected["prompt"]))
    engine.submit(
        engine.prepare(
            Request(
                id="one",
                messages=(message,),
                sampling=Sampling(temperature=0),
                max_tokens=len(tokens),
            )
        )
    )

    text = ""
    while engine.busy:
        text += "".join(event.text for _, event in engine.step() if isinstance(event, Delta))

    whole = b"".join(words.bytes_of(token) for token in tokens).decode(errors="replace")
    assert text == whole
