"""Reads why a peer says no: every shape that servers give their errors. Pure."""

from __future__ import annotations

import msgspec

from edge_agent.serving.peers.reply import told


def sentence(error: object) -> str:
    """Return the words in the value of an `error` field: a string, or an object with a message."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("type") or error.get("code")
    return told(str(error)) if isinstance(error, str | int) else ""


def complaint(body: bytes) -> str:
    """Return what the body of an error says; empty where it says nothing that can be read.

    Known shapes: `{"error": "…"}`, `{"error": {"message": "…"}}`, `{"detail": "…"}`,
    `{"message": "…"}`. A page of a proxy says nothing.
    """
    try:
        tree = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(tree, dict):
        return ""
    return next(
        (words for key in ("error", "detail", "message") if (words := sentence(tree.get(key)))), ""
    )
