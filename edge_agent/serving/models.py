"""The names that requests may give the model that is served, and what each makes of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.messages import Request
    from edge_agent.modelstore.card import Variant

# Ollama's clients write NAME:latest for NAME.
_LATEST = ":latest"


class Models:
    """A base model, its variants, and which of them a request means that names none."""

    def __init__(self, default: str, base: str, variants: Mapping[str, Variant]) -> None:
        """`default` is `base` or one of its `variants`, which are kept by name."""
        self.default = default
        self._base = base
        self._variants = dict(variants)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the default first, then the base."""
        return tuple(dict.fromkeys([self.default, self._base, *self._variants]))

    def dress(self, request: Request) -> Request:
        """Return `request` as the base model shall see it.

        Raises:
            ModelNotFound: it names another model.
        """
        name = self.default if request.model is None else request.model.removesuffix(_LATEST)
        if name not in self.names:
            raise ModelNotFound(str(request.model), self.names)
        variant = self._variants.get(name)
        return variant.dress(request) if variant else request
