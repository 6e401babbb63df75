"""The section `routing`: when a peer answers instead of the model here."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge_agent.config.units import Seconds


class Routing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers: the model here, or a peer."""

    fallback: Annotated[
        Literal["never", "auto", "prefer-peer"],
        Meta(description="peers answer: never, when the model here cannot (auto), or first"),
    ] = "auto"
    policy: Annotated[
        Literal["local", "site", "any"],
        Meta(description="how far prompts may travel that do not say: local, site, any"),
    ] = "site"
    max_local_wait_s: Annotated[
        Seconds | None,
        Meta(description="a longer wait for the model here goes to a free peer, s; null: never"),
    ] = None
    min_prompt_tokens_for_peer: Annotated[
        Annotated[int, Meta(ge=1, le=1 << 20)] | None,
        Meta(description="prompts of at least so many tokens go to a free peer; null: none"),
    ] = None
