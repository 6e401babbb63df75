"""The names that requests may give the model that is served, and what each makes of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_agent.messages import Request
    from edge_agent.modelstore.card import Variant

# Ollama's clients write NAME:latest for NAME.
_LATEST = ":latest"


class Models:
    """The names of what is served, their variants, and which a request means that names none."""

    def __init__(self, default: str, base: str, variants: Mapping[str, Variant]) -> None:
        """`default` is `base` or one of its `variants`, which are kept by name."""
        self.default = default
        self._variants = dict(variants)
        self.names = tuple(dict.fromkeys([default, base, *variants]))
        """All names, the default first, then the base."""

    @classmethod
    def of_peers(cls, names: Sequence[str]) -> Models:
        """Return the models of peers, `names` as they call them, the default first."""
        models = cls(names[0], names[0], {})
        models.names = tuple(dict.fromkeys(names))
        return models

    def dress(self, request: Request) -> Request:
        """Return `request` as the base model shall see it.

        Raises:
            ModelNotFound: it names another model.
        """
        asked = self.default if request.model is None else request.model
        name = asked if asked in self.names else asked.removesuffix(_LATEST)
        if name not in self.names:
            raise ModelNotFound(str(request.model), self.names)
        variant = self._variants.get(name)
        return variant.dress(request) if variant else request
