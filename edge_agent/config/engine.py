"""The section `engine`: how the model's process computes, waits and is restarted."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge_agent.config.pinned import Pinned
from edge_agent.config.units import Seconds, size_bytes


class Engine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model's process."""

    slots: Annotated[int, Meta(ge=1, le=64, description="requests that run at once")] = 4
    context: Annotated[
        int,
        Meta(ge=128, le=131072, description="tokens of prompt and answer together, per slot"),
    ] = 4096
    threads: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=256)],
        Meta(description="compute threads; auto: the cores we may use, of unequal ones the fast"),
    ] = "auto"
    # Costs disk, as much as the weights again or a bit more, and saves as much memory.
    prepare: Annotated[
        bool, Meta(description="pack weights for this machine once, before the first load")
    ] = True
    # One chunk is the longest a running answer waits for a neighbour's prompt.
    chunk_tokens: Annotated[
        int, Meta(ge=16, le=1024, description="prompt tokens computed in one step")
    ] = 128
    # A new prompt then takes twice as long beside an answer, and nobody who reads one sees it stop.
    kept_pace: Annotated[
        float,
        Meta(
            ge=0,
            le=0.9,
            description="part of their pace that running answers keep while prompts are read; "
            "0: prompts are read as fast as they can be",
        ),
    ] = 0.5
    kv_dtype: Annotated[
        Literal["auto", "fp32", "fp16", "int8"],
        Meta(
            description="the KV cache: fp16 takes half the memory of fp32, int8 a quarter; auto: "
            "fp32 where all slots may fill up, else the smallest"
        ),
    ] = "auto"
    # Long system prompts, lists of tools and conversations are read once instead of every time.
    prefix_bytes: Annotated[
        str | Annotated[int, Meta(ge=0)],
        Meta(
            description="KV cache kept of ended requests, for prompts that begin alike: auto (as "
            "much as one slot can fill), bytes, or text like 512MiB; 0: prompts share nothing"
        ),
    ] = "auto"
    # Each is compared with every prompt; a gateway has a handful of programs of its own.
    pinned: Annotated[
        tuple[Pinned, ...],
        Meta(
            max_length=16,
            description="system prompts and lists of tools that are computed once and kept on disk "
            "(name, one of system, file, variant, and one of tools, tools_file)",
        ),
    ] = ()
    # Answers that repeat their prompt come faster; where nothing repeats, it costs nothing. More
    # than eight tokens in a step cost as much again as the last guesses bring.
    draft_tokens: Annotated[
        int,
        Meta(
            ge=0,
            le=15,
            description="guessed tokens of an answer, found in prompt and answer, that one step "
            "verifies at most, where it raises speed; answers are the same; 0: none",
        ),
    ] = 7
    # More than slots x 8 waiting would not be answered within a usual client's patience.
    queue_requests: Annotated[
        int, Meta(ge=1, le=10_000, description="requests that may wait for a slot")
    ] = 32
    # Several answers of a few hundred tokens on a slow gateway: far below that, the order in which
    # requests came would matter more than their priority.
    ageing_s: Annotated[
        Seconds, Meta(description="who waits so long for a slot counts as one priority higher, s")
    ] = 60.0
    # Hundreds of ordinary prompts, or a few of the largest.
    queue_bytes: Annotated[
        int, Meta(ge=1 << 20, le=1 << 30, description="bytes of prompts inside, all together")
    ] = 16 << 20
    max_crashes: Annotated[
        int, Meta(ge=1, le=100, description="crashes under one request before it is poison")
    ] = 3
    # A prefill chunk of the largest model on the slowest board takes seconds, never minutes.
    stall_limit_s: Annotated[
        Seconds, Meta(description="no heartbeat for so long: the engine is killed, s")
    ] = 60.0
    load_wait_s: Annotated[
        Seconds, Meta(description="how long a request waits for a loading model, s")
    ] = 20.0
    restart_wait_s: Annotated[
        Seconds, Meta(description="first wait before the engine is restarted, s; doubles")
    ] = 0.5
    restart_wait_limit_s: Annotated[Seconds, Meta(description="longest such wait, s")] = 60.0

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: a size cannot be read; it names the key.
        """
        _ = self.most_prefix_bytes
        names = [one.name for one in self.pinned]
        if twice := next((name for name in names if names.count(name) > 1), None):
            msg = f"engine.pinned: two are called {twice!r}"
            raise ValueError(msg)

    @property
    def most_prefix_bytes(self) -> int | None:
        """What kept prefixes may take, in bytes; None: as much as one slot."""
        if self.prefix_bytes == "auto":
            return None
        return size_bytes("engine.prefix_bytes", self.prefix_bytes)
