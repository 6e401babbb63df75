"""Pulls from a hub, from a web server and from a file, with the real import at the end."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.errors import ModelError
from edge_agent.modelstore import disk, fetching
from edge_agent.modelstore.card import Card
from edge_agent.modelstore.catalog import Catalog, catalog_of
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.pull import pull
from edge_agent.modelstore.retry import Patience
from edge_agent.modelstore.sources import FileSource, HfSource, HttpsFile, HttpsSource, Source
from edge_agent.modelstore.store import ModelStore
from tests.importers.tiny_gguf import TinyModel
from tests.importers.tiny_hf import TinyHf
from tests.modelstore.hub import COMMIT, Fault, Hub, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 60.0
QUICK = Patience(tries=2, first_s=0.001)
NEEDED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
HF = HfSource(
    repo="tiny/model",
    files=(*NEEDED, "model*.safetensors", "model.safetensors.index.json"),
    optional=("chat_template.jinja",),
    bytes=900_000,
)
PULL = """
import sys
from pathlib import Path
from edge_agent.modelstore.catalog import Catalog, catalog_of
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.pull import pull
from edge_agent.modelstore.store import ModelStore
home, cards = map(Path, sys.argv[1:])
pull("tiny", store=ModelStore(home), catalog=Catalog(cards), progress=Progress(sys.stderr))
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (tmp_path / "checkpoint").mkdir()
    TinyHf(family="llama", shards=2).write(tmp_path / "checkpoint")
    files = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint").iterdir()}
    others = {"README.md": b"# Tiny", "pytorch_model.bin": bytes(5000), "onnx/model.onnx": b"no"}
    monkeypatch.setattr(fetching, "PATIENCE", QUICK)
    monkeypatch.setenv("NO_PROXY", "*")
    with running(Hub(files=files | others)) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


class Gateway:
    """A home and the cards it knows."""

    def __init__(self, directory: Path) -> None:
        self.home, self.cards = directory / "home", directory / "cards"
        self.cards.mkdir()
        self.store = ModelStore(self.home)

    def knows(self, source: Source) -> None:
        card = Card(
            name="tiny",
            title="Tiny",
            family="tiny",
            licence="mit",
            source=source,
            package_bytes=500_000,
        )
        (self.cards / "tiny.yaml").write_bytes(msgspec.yaml.encode(card))

    def pull(self) -> Path:
        catalog, progress = Catalog(self.cards), Progress(sys.stderr)
        return pull("tiny", store=self.store, catalog=catalog, progress=progress)

    def parts(self) -> dict[str, int]:
        found = self.home.rglob("*.part")
        return {path.name: path.stat().st_size for path in found}

    @property
    def is_clean(self) -> bool:
        return [path.name for path in (self.home / "staging").iterdir()] == ["tiny.lock"]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    made = Gateway(tmp_path)
    made.knows(HF)
    return made


def asked_files(hub: Hub) -> set[str]:
    return {line.split()[1].rsplit("/", 1)[1] for line in hub.asked if "/resolve/" in line}


def test_a_pull_from_the_hub_takes_the_needed_files_of_one_commit(
    hub: Hub, gateway: Gateway
) -> None:
    package = gateway.pull()

    gateway.store.verify("tiny", Progress(sys.stderr))
    assert asked_files(hub) == {*NEEDED, *SHARDS, "model.safetensors.index.json"}
    manifest = read_manifest(package)
    assert (manifest.source, manifest.licence) == (f"hf:tiny/model@{COMMIT}", "mit")
    assert gateway.is_clean


def test_a_killed_pull_goes_on_where_it_was(hub: Hub, gateway: Gateway) -> None:
    large = SHARDS[0]
    hub.faults[large].append(Fault(cut_after_bytes=50_000, stalls=True))
    process = subprocess.Popen(
        [sys.executable, "-c", PULL, str(gateway.home), str(gateway.cards)], stderr=-3
    )
    deadline_s = time.monotonic() + PATIENCE_S
    while gateway.parts() != {f"{large}.part": 50_000} and time.monotonic() < deadline_s:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()

    gateway.pull()

    needed = [*NEEDED, *SHARDS, "model.safetensors.index.json"]
    assert hub.sent_bytes == {name: len(hub.files[name]) for name in needed}
    assert gateway.is_clean


def test_files_of_another_commit_are_not_taken_for_those_of_this(
    hub: Hub, gateway: Gateway
) -> None:
    hub.faults[SHARDS[1]].append(Fault(status=404))
    with pytest.raises(ModelError, match=f"{SHARDS[1]}: there is no such file"):
        gateway.pull()
    hub.commit = "f" * 40
    hub.files[SHARDS[0]] = hub.files[SHARDS[0]][:-1] + b"?"

    package = gateway.pull()

    assert read_manifest(package).source == f"hf:tiny/model@{hub.commit}"
    assert hub.sent_bytes[SHARDS[0]] == 2 * len(hub.files[SHARDS[0]])


def test_weights_that_cannot_be_imported_are_kept_for_the_next_try(
    hub: Hub, gateway: Gateway
) -> None:
    config = hub.files["config.json"]
    hub.files["config.json"] = b"{}"
    with pytest.raises(ModelError, match=r"import failed .*config\.json"):
        gateway.pull()
    sent_bytes = hub.sent_bytes[SHARDS[0]]
    with pytest.raises(ModelError, match=r"import failed .*config\.json"):
        gateway.pull()
    assert hub.sent_bytes[SHARDS[0]] == sent_bytes
    assert gateway.store.names() == ()

    hub.files["config.json"] = config
    gateway.pull()


def test_what_was_fetched_of_a_commit_needs_no_hub_any_more(
    hub: Hub, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.knows(msgspec.structs.replace(HF, revision=COMMIT))
    hub.faults[SHARDS[1]].append(Fault(status=403))
    with pytest.raises(ModelError, match="an account or the acceptance of terms"):
        gateway.pull()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")

    gateway.pull()

    assert [line for line in hub.asked if "/api/" in line] == [
        f"GET /api/models/tiny/model/revision/{COMMIT}"
    ]


def test_wrong_bytes_never_become_a_package(hub: Hub, gateway: Gateway) -> None:
    hub.faults[SHARDS[1]].extend([Fault(flips_a_bit=True)] * 2)

    with pytest.raises(ModelError, match=f"{SHARDS[1]} is not the file with hash"):
        gateway.pull()

    assert gateway.store.names() == ()


def test_a_single_file_of_the_hub_is_the_model(hub: Hub, gateway: Gateway, tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "tiny.gguf")
    hub.files["tiny.Q4_1.gguf"] = (tmp_path / "tiny.gguf").read_bytes()
    hub.files["tiny.Q8_0.gguf"] = b"another"
    gateway.knows(HfSource(repo="tiny/model", files=("tiny.Q4_1.gguf",), bytes=100_000))

    gateway.pull()

    assert asked_files(hub) == {"tiny.Q4_1.gguf"}


@pytest.mark.parametrize(("free_bytes", "asked"), [(1_000_000, 0), (34_500_000, 1)])
def test_too_little_disk_is_said_before_the_download(
    hub: Hub, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, free_bytes: int, asked: int
) -> None:
    # Enough for what the card promises, which is too little, or not even for that.
    gateway.knows(msgspec.structs.replace(HF, bytes=1000))
    monkeypatch.setattr(disk, "free_bytes", lambda _: free_bytes)

    with pytest.raises(ModelError, match=r"preparing tiny needs \d+ MB of free disk"):
        gateway.pull()

    assert len(hub.asked) == asked


def test_phi_4_mini_is_taken_for_what_its_card_pins_and_nothing_else(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = catalog_of(gateway.home).card("phi-4-mini-instruct").source
    assert isinstance(shipped, HfSource)
    files = dict.fromkeys((*shipped.files, "README.md"), b"not the weights")
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1 << 40)
    monkeypatch.setenv("NO_PROXY", "*")
    with running(Hub(repo=shipped.repo, commit=shipped.revision, files=files)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

        with pytest.raises(ModelError, match="is not the file the card names"):
            pull(
                "phi-4-mini-reasoning-preset",
                store=gateway.store,
                catalog=catalog_of(gateway.home),
                progress=Progress(sys.stderr),
            )

    assert hub.asked == [f"GET /api/models/{shipped.repo}/revision/{shipped.revision}"]


def test_a_pull_from_a_web_server_is_resumed_and_checked(
    hub: Hub, gateway: Gateway, tmp_path: Path
) -> None:
    TinyModel().write(tmp_path / "tiny.gguf")
    data = (tmp_path / "tiny.gguf").read_bytes()
    hub.files["tiny.gguf"] = data
    sha256 = hashlib.sha256(data).hexdigest()
    file = HttpsFile(url=f"{hub.url}/any/tiny.gguf", bytes=len(data), sha256=sha256)
    gateway.knows(HttpsSource(files={"tiny.gguf": file}))
    hub.faults["tiny.gguf"].extend([Fault(cut_after_bytes=1000), *[Fault(status=503)] * 2])
    with pytest.raises(ModelError, match="status 503"):
        gateway.pull()

    package = gateway.pull()

    assert hub.sent_bytes["tiny.gguf"] == len(data)
    assert read_manifest(package).source == file.url


def test_a_file_of_this_machine_is_imported_where_it_is(
    hub: Hub, gateway: Gateway, tmp_path: Path
) -> None:
    gateway.knows(FileSource(path=str(tmp_path / "checkpoint")))

    package = gateway.pull()

    assert read_manifest(package).source == f"file:{tmp_path / 'checkpoint'}"
    assert sorted(os.listdir(tmp_path / "checkpoint")) == sorted(  # noqa: PTH208  # names
        [*NEEDED, *SHARDS, "model.safetensors.index.json"]
    )
    assert hub.asked == []


def test_a_file_that_is_not_there_is_named(gateway: Gateway, tmp_path: Path) -> None:
    gateway.knows(FileSource(path=str(tmp_path / "none")))

    with pytest.raises(ModelError, match=str(tmp_path / "none")):
        gateway.pull()
