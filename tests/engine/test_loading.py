"""What of a package's limits and the knobs becomes of the parts of an engine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.engine import loading
from edge_agent.engine.kv_cache import KvDtype

if TYPE_CHECKING:
    from edge_agent.engine.loading import Loaded

TOKEN_BYTES = 10


def loaded(
    patch: pytest.MonkeyPatch, *, context: int, prefix_bytes: int | None
) -> tuple[Loaded, dict[str, Any]]:
    """Return what is loaded of a package for 100 tokens, and what its decoder was asked for."""
    asked: dict[str, Any] = {}

    def decoder(*_: object, **options: Any) -> SimpleNamespace:
        asked.update(options)
        return SimpleNamespace(arena=SimpleNamespace(bytes_of=lambda tokens: tokens * TOKEN_BYTES))

    patch.setattr(loading, "Decoder", decoder)
    patch.setattr(loading, "Preparer", lambda *_, context: SimpleNamespace(context=context))
    patch.setattr(
        loading, "read_manifest", lambda _package: SimpleNamespace(name="tiny", context=100)
    )
    result = loading.load(
        Path("tiny"),
        slots=2,
        context=context,
        chunk_tokens=16,
        threads=1,
        kv_dtype=KvDtype.FP32,
        prefix_bytes=prefix_bytes,
        pinned=None,
    )
    return result, asked


@pytest.mark.parametrize(("context", "most"), [(50, 50), (5000, 100)])
def test_no_request_gets_more_context_than_the_package_has(
    monkeypatch: pytest.MonkeyPatch, context: int, most: int
) -> None:
    engine, asked = loaded(monkeypatch, context=context, prefix_bytes=None)

    assert engine.context == most
    assert engine.preparer.context == most  # type: ignore[attr-defined]
    assert asked["tokens"] == most + 16


def test_prefixes_that_are_kept_have_slots_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _, kept = loaded(monkeypatch, context=50, prefix_bytes=None)
    _, none = loaded(monkeypatch, context=50, prefix_bytes=0)

    assert kept["slots"] > none["slots"] == 2
