"""`engine.pinned`: system prompts and lists of tools that are computed once and kept."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct


class Pinned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What many prompts begin with, a system prompt, tools or both: kept on disk as KV cache."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="for the log")]
    system: Annotated[
        Annotated[str, Meta(min_length=1, max_length=65536)] | None,
        Meta(description="the system prompt itself"),
    ] = None
    file: Annotated[str | None, Meta(description="or a file that holds it (UTF-8)")] = None
    variant: Annotated[
        Annotated[str, Meta(max_length=128)] | None,
        Meta(description="or a variant of the model, whose system prompt it is"),
    ] = None
    tools: Annotated[
        tuple[dict[str, Any], ...],
        Meta(description="the tools that requests offer, as they write them and in their order"),
    ] = ()
    tools_file: Annotated[
        str | None, Meta(description="or a file that holds them (a JSON list)")
    ] = None

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: nothing is said, or two say what the prompt is, or the tools are.
        """
        num_prompts = sum(said is not None for said in (self.system, self.file, self.variant))
        has_tools, has_file = bool(self.tools), self.tools_file is not None
        if num_prompts > 1 or (has_tools and has_file) or not (num_prompts + has_tools + has_file):
            msg = (
                f"engine.pinned {self.name!r}: say one of system, file and variant, one of tools "
                "and tools_file, or one of each"
            )
            raise ValueError(msg)
