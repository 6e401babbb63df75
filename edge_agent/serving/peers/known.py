"""What is known of a peer: by configuration, then by probes, then by what we asked of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_agent.serving.peers.capability import Ability, Flavour, has_room, lacks, too_long
from edge_agent.serving.peers.findings import Finding
from edge_agent.serving.peers.ollama_call import context_for

if TYPE_CHECKING:
    from edge_agent.config import Peer
    from edge_agent.serving.peers.errand import Errand


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known at one moment; every event makes the next one."""

    found: Finding
    """By the last good probe."""
    is_probed: bool = False
    """Whether there was one; else it is what the configuration tells."""
    running_then: int = 0
    """How many requests of ours it had at that probe."""

    @classmethod
    def by_configuration(cls, settings: Peer) -> Known:
        """Return what is known of a peer that was not probed yet."""
        flavour = Flavour.OLLAMA if settings.kind == "ollama" else Flavour.OPENAI
        ability = Ability(flavour=flavour, context_tokens=settings.context)
        return cls(found=Finding(ability=ability, names=frozenset({settings.model})))

    def probed(self, finding: Finding, running: int) -> Known:
        """Return what is known after a good probe, when it had `running` requests of ours."""
        return Known(found=finding, is_probed=True, running_then=running)

    def loaded_for(self, errand: Errand, fixed_tokens: int | None) -> Known:
        """Return what is known when an Ollama server is asked for `errand`.

        Its model is in memory then, with as much context as prompt and answer need, or as the
        operator has fixed: that is what it is to be asked for.
        """
        context = context_for(
            errand.room_tokens,
            fixed=fixed_tokens,
            loaded=self.found.loaded_tokens,
            most=self.found.ability.context_tokens,
        )
        return replace(self, found=replace(self.found, loaded_tokens=context))

    @property
    def is_certain(self) -> bool:
        """Whether it is known what the peer can do: servers of OpenAI's kind say it to probes."""
        return self.is_probed or self.found.ability.flavour is Flavour.OLLAMA

    @property
    def is_cold(self) -> bool:
        """Whether its model has to be loaded first; who was not asked that may be warm."""
        is_ollama = self.found.ability.flavour is Flavour.OLLAMA
        return is_ollama and self.is_probed and self.found.loaded_tokens is None

    def work(self, running: int) -> int:
        """Return how many requests it has, of which `running` are ours.

        Ours of the last look were among those it told of then, and may be over by now.
        """
        return max(0, (self.found.open_requests or 0) - self.running_then) + running

    def has_room(self, errand: Errand) -> bool:
        """Return whether `errand` fits its context as far as anybody can tell."""
        return has_room(self.found.ability, errand)

    def shortness(self, errand: Errand) -> str | None:
        """Return why its context is too short for `errand`; None if it may not be."""
        return too_long(self.found.ability, errand)

    def inability(self, errand: Errand) -> str | None:
        """Return why it could not answer `errand` if it came there; None if it could."""
        return lacks(self.found.ability, errand.request) or self.shortness(errand)
