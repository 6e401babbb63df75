"""One forward step of the decoder graph: tokens of many slots in, asked-for logits out.

The only place that runs onnxruntime. K and V are bound in place, as past and as present.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

# onnxruntime 1.32 reports home by itself: it looks up Microsoft's event collector and keeps a
# device id below $HOME. It reads this before anything else, so it must stand before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from edge_agent.engine.batch import chunk_feeds, pack
from edge_agent.engine.binding import Binding
from edge_agent.engine.heap import fresh_blocks
from edge_agent.engine.kv_cache import KvArena, KvDtype, capacity_for
from edge_agent.engine.kv_scales import read_kv_scales
from edge_agent.engine.laps import Laps, Stage
from edge_agent.engine.rope import rope_tables
from edge_agent.engine.weight_pages import read_again_ahead, read_ahead
from edge_agent.errors import ModelError
from edge_agent.modelstore.prepared import WEIGHTS, find_graph, give_up

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.engine.batch import Batch, Row
    from edge_agent.modelstore.manifest import Activations, Manifest
    from edge_agent.modelstore.prepared import Graph

# Measured on Phi-4-mini's attention: 16 tokens are read faster by the kernel for int8 caches than
# after what came before them was turned into floats, 32 as fast, and 64 in 0.7 of the time.
_LEAST_CHUNK_TOKENS = 32
# One for each stretch of slots that ran together; a new one costs less than a millisecond.
_MOST_BINDINGS = 64


def session_options(threads: int, activations: Activations) -> ort.SessionOptions:
    """Return the one set of options that models are loaded with, and that packs their weights.

    What is not here was measured, one by one against these in turns, and left as onnxruntime has it
    (two cores; SmolLM2 and Phi-4-mini's shape, steps of one row): blocks of work that shrink
    (`session.dynamic_block_base`), threads tied to cores, and no arena gain nothing, between 0.98
    and 1.01 of the speed; no spinning within a run costs 21 and 3 %.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Shapes change with every step, so a recorded allocation pattern never fits.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    for key, value in {
        # A daemon that waits for work must not burn a core: stop spinning when a run ends. To spin
        # on from step to step gains nothing (1.01 and 0.98).
        "session.force_spinning_stop": "1",
        "session.set_denormal_as_zero": "1",
        # Parallel packing doubles the peak memory of a load and gains nothing on small boxes.
        "session.prepack.enable_parallel": "0",
        # Without it a shared tensor that is reshaped would be copied to the heap at load.
        "optimization.constant_folding_max_output_size_in_bytes": "1048576",
        # The kernels of that library for ARM64 round all of a row alike, not by blocks: what the
        # rounding of blocks takes off would no longer be what they lose.
        "mlas.disable_kleidiai": "1" if activations == "exact" else "0",
    }.items():
        options.add_session_config_entry(key, value)
    return options


class Decoder:
    """A loaded model with its KV arena."""

    def __init__(
        self,
        package: Path,
        manifest: Manifest,
        *,
        slots: int,
        tokens: int,
        threads: int,
        kv_dtype: KvDtype = KvDtype.FP32,
    ) -> None:
        """Load the graph of `package`; every slot gets room for `tokens` positions.

        Raises:
            ModelError: the graph or its weights cannot be loaded, the package has no graph or no
                scales for `kv_dtype`, or there are no addresses for the caches.
        """
        shape, dtype = manifest.shape, kv_dtype.stored
        capacity = capacity_for(shape, tokens=tokens, dtype=dtype)
        scales = _scale_inputs(package, manifest) if kv_dtype is KvDtype.INT8 else {}
        self._graph, self._session = _load(package, manifest, kv_dtype, threads)
        self.arena = KvArena(shape, slots=slots, capacity=capacity, dtype=dtype)
        self.rope = rope_tables(manifest.rope, capacity=capacity, dtype=kv_dtype.computed)
        self.vocab = shape.vocab
        self._constants: dict[str, NDArray[Any]] = {
            "cos": self.rope.cos,
            "sin": self.rope.sin,
            # With query_seqlens only an upper bound of every row's length: the capacity.
            "total_len": np.array(capacity, np.int32),
            **scales,
        }
        self._bindings: dict[tuple[range, bool], Binding] = {}
        # Packages of old have an int8 graph whose rows are all alike.
        self._takes_chunk = any(one.name == "has_chunk" for one in self._session.get_inputs())
        self._shrinking = ort.RunOptions()
        # What a chunk turns into floats grows from one to the next and fits no earlier block: given
        # back after each, it costs faults of some milliseconds; kept, several times its size.
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._logits = np.empty((slots, self.vocab), np.float32)
        self.laps = Laps()

    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Compute one step; return logits float32 [R, vocab], valid until the next call.

        The caches of the rows' slots grow by the rows' tokens, in place.
        """
        chunk = self._chunk_of(rows)
        batch = pack(rows, chunk=chunk)
        binding = self._binding(batch.slots, with_chunk=chunk is not None)
        feeds = batch.feeds
        if self._takes_chunk:
            feeds |= chunk_feeds(rows, chunk, first_slot=batch.slots.start)
        self.laps.lap(Stage.PACK)
        for name, array in feeds.items():
            binding.feed(name, array)
        logits = self._bind_logits(binding, batch)
        if chunk is None:
            self._run(binding, None)
            return logits
        strips = self._bind_strips(binding, len(chunk.tokens))
        self._run(binding, self._shrinking)
        self.arena.store(chunk.slot, strips, start=chunk.past)
        return logits

    def _run(self, binding: Binding, options: ort.RunOptions | None) -> None:
        self.laps.lap(Stage.BIND)
        self._session.run_with_iobinding(binding.of_session, options)
        self.laps.lap(Stage.RUN)

    def _chunk_of(self, rows: Sequence[Row]) -> Row | None:
        """Return the row that attends apart: the longest, if it is worth it."""
        longest = max(rows, key=lambda row: len(row.tokens))
        is_worth_it = self._takes_chunk and len(longest.tokens) >= _LEAST_CHUNK_TOKENS
        return longest if is_worth_it else None

    def _bind_strips(self, binding: Binding, num_tokens: int) -> NDArray[np.int8]:
        """Bind what a chunk adds to the cache: int8 [layers, 2, kv_heads, num_tokens, head_dim]."""
        layers = len(self.arena.layers)
        _, kv_heads, _, head_dim = self.arena.layers[0][0].shape
        strips = np.empty((layers, 2, 1, kv_heads, num_tokens, head_dim), np.int8)
        for layer in range(layers):
            for number, side in enumerate("kv"):
                binding.receive(f"chunk.{layer}.{side}", strips[layer, number])
        return strips[:, :, 0]

    def _bind_logits(self, binding: Binding, batch: Batch) -> NDArray[np.float32]:
        if batch.num_logits > len(self._logits):
            self._logits = np.empty((batch.num_logits, self.vocab), np.float32)
        logits = self._logits[: batch.num_logits]
        binding.receive("logits", logits)
        return logits

    def _binding(self, slots: range, *, with_chunk: bool) -> Binding:
        """Return the binding of `slots`, with all that never changes bound once.

        Steps with a chunk have more outputs, and so bindings of their own.
        """
        key = (slots, with_chunk)
        if key in self._bindings:
            return self._bindings[key]
        if len(self._bindings) == _MOST_BINDINGS:
            del self._bindings[next(iter(self._bindings))]
        binding = Binding(self._session.io_binding())
        for name, array in self._constants.items():
            binding.hold(name, array)
        for layer, sides in enumerate(self.arena.layers):
            for side, array in zip("kv", sides, strict=True):
                part = array[slots.start : slots.stop]
                binding.hold(f"past.{layer}.{side}", part)
                binding.receive(f"present.{layer}.{side}", part)
        self._bindings[key] = binding
        return binding


def _load(
    package: Path, manifest: Manifest, kv_dtype: KvDtype, threads: int
) -> tuple[Graph, ort.InferenceSession]:
    name = manifest.graphs.get(kv_dtype)
    if name is None:
        known = ", ".join(manifest.graphs)
        msg = (
            f"{package}: no graph for a KV cache of {kv_dtype} (there is {known}); import it again"
        )
        raise ModelError(msg)
    graph = find_graph(package, manifest, name)
    options = session_options(threads, manifest.quantization.activations)
    if graph.lock is None:
        return graph, _session(graph.path, options)
    try:
        weights, tail = package / WEIGHTS, manifest.files[WEIGHTS].bytes
        read_ahead(weights, start=tail)
        session = _session(graph.path, options)
        read_again_ahead(weights, start=tail)
    except (ModelError, OSError) as exc:
        graph = give_up(package, name, graph, str(exc))
        session = _session(graph.path, options)
    return graph, session


def _session(graph: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        with fresh_blocks():
            return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime raises classes of its own, without a common base
        msg = f"{graph}: {exc}"
        raise ModelError(msg) from exc


def _scale_inputs(package: Path, manifest: Manifest) -> dict[str, NDArray[Any]]:
    scales = read_kv_scales(package, manifest.shape)
    return {
        f"{side}_scale.{layer}": scales[layer, number][np.newaxis, :, np.newaxis]
        for layer in range(manifest.shape.layers)
        for number, side in enumerate("kv")
    }
