"""Reads why a peer says no: every shape that servers give their errors. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge_agent.serving.peers.reply import told

# Servers say it in words of their own: vLLM "This model's maximum context length is …", llama.cpp
# and Ollama "… exceeds the available context size …", older ones of Ollama "the input length
# exceeds the context length", edge_agent and OpenAI by the code of the error.
_TOO_LONG = ("context length", "context size", "context window", "context_length_exceeded")
# Ollama hands on what its runner said as text: an error inside of an error, and no deeper.
_MOST_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error says."""

    words: str = ""
    """One short line; empty where it says nothing that can be read."""
    is_too_long: bool = False
    """Whether the prompt does not fit the context there, alone or with its answer."""


def complaint(body: bytes | str, depth: int = _MOST_DEPTH) -> Complaint:
    """Return what the body of an error says.

    Known shapes: `{"error": "…"}`, `{"error": {"message": "…"}}`, `{"detail": "…"}`,
    `{"message": "…"}`. A page of a proxy says nothing.
    """
    try:
        tree = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return Complaint()
    if not isinstance(tree, dict):
        return Complaint()
    found = (of_error(tree.get(key), depth) for key in ("error", "detail", "message"))
    return next((each for each in found if each.words), Complaint())


def of_error(error: object, depth: int = _MOST_DEPTH) -> Complaint:
    """Return what the value of an `error` field says: a string, or an object with a message."""
    labels: list[object] = []
    if isinstance(error, dict):
        labels = [error.get("code"), error.get("type")]
        error = next((said for said in (error.get("message"), *reversed(labels)) if said), None)
    if isinstance(error, str) and error.startswith("{") and depth:
        inner = complaint(error, depth - 1)
        if inner.words:
            return inner
    words = told(str(error)) if isinstance(error, str | int) else ""
    is_too_long = any(_is_too_long(said) for said in (error, *labels))
    return Complaint(words, is_too_long)


def _is_too_long(said: object) -> bool:
    return isinstance(said, str) and any(words in said.lower() for words in _TOO_LONG)
