"""The section `limits`: how large one request may be, on every wire."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from edge_agent.config.units import Seconds


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of one request, on every wire."""

    max_messages: Annotated[int, Meta(ge=1, le=10_000, description="messages")] = 256
    max_json_depth: Annotated[int, Meta(ge=4, le=256, description="nesting of JSON")] = 32
    max_stop_strings: Annotated[int, Meta(ge=1, le=64, description="stop strings")] = 16
    max_stop_chars: Annotated[int, Meta(ge=1, le=4096, description="length of one")] = 256
    max_deadline_s: Annotated[Seconds, Meta(description="longest deadline, s")] = 86400.0
    # The longest context there is; an answer that long has no room for a prompt.
    max_answer_tokens: Annotated[
        int, Meta(ge=1, le=1 << 20, description="largest max_tokens a request may name")
    ] = 131072
    max_model_chars: Annotated[
        int, Meta(ge=8, le=1024, description="length of a model name in a request")
    ] = 128
    max_tools: Annotated[int, Meta(ge=1, le=1024, description="tools of a request")] = 128
    # Definitions are prompt: this many bytes are about 60,000 tokens.
    max_tools_bytes: Annotated[
        int, Meta(ge=1024, le=64 << 20, description="JSON of all tools of a request, bytes")
    ] = 256 << 10
    max_id_chars: Annotated[int, Meta(ge=8, le=256, description="length of a request id")] = 128
