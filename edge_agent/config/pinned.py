"""`engine.pinned`: system prompts that are computed once and kept."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Pinned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A system prompt that many prompts begin with: its KV cache is kept on disk."""

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

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: not exactly one of the three says what the prompt is.
        """
        if [self.system, self.file, self.variant].count(None) != 2:  # noqa: PLR2004  # of three
            msg = f"engine.pinned {self.name!r}: say one of system, file and variant"
            raise ValueError(msg)
