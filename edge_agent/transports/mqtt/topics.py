"""The names of our topics, and to which topics of others we are willing to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from paho.mqtt.client import topic_matches_sub

from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.config import Config

MOST_REPLY_TOPIC_BYTES = 200
# A reply there would be taken for a device's configuration: whoever asks could plant devices.
_NEVER = "homeassistant/#"
_NODE, _BASE, _REPLY = "mqtt.node", "mqtt.base_topic", "mqtt.reply_topics"


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one gateway, below one base."""

    base: str
    reply_filters: tuple[str, ...]

    @classmethod
    def of(cls, config: Config) -> Topics:
        """Return the topics that `config` names.

        Raises:
            ConfigError: the base topic or a filter cannot be one.
        """
        node = config.node
        if set(node) & set("+#/$\0"):
            raise ConfigError(_NODE, f"{node!r} holds one of + # / $")
        base = config.mqtt.base_topic.replace("{node}", node)
        if not _is_plain(base) or base.endswith("/"):
            raise ConfigError(_BASE, f"{base!r} is not a topic to publish below")
        filters = tuple(text.replace("{node}", node) for text in config.mqtt.reply_topics)
        for text in filters:
            if not _is_filter(text):
                raise ConfigError(_REPLY, f"{text!r} is not a topic filter")
        return cls(base, filters)

    @property
    def request(self) -> str:
        """Where requests come in."""
        return f"{self.base}/request"

    @property
    def cancel(self) -> str:
        """Where requests are taken back."""
        return f"{self.base}/cancel"

    @property
    def status(self) -> str:
        """Whether we are there, retained."""
        return f"{self.base}/status"

    @property
    def info(self) -> str:
        """What we are, retained."""
        return f"{self.base}/info"

    def response(self, request_id: str) -> str:
        """Where a request is answered that names no other topic."""
        return f"{self.base}/response/{request_id}"

    def may_reply_to(self, topic: str) -> bool:
        """Tell whether an answer may be published to `topic`, which a stranger chose."""
        own = {self.request, self.cancel, self.status, self.info}
        return (
            _is_plain(topic)
            and len(topic.encode()) <= MOST_REPLY_TOPIC_BYTES
            and topic not in own
            and not topic_matches_sub(_NEVER, topic)
            and any(topic_matches_sub(text, topic) for text in self.reply_filters)
        )


def _is_plain(topic: str) -> bool:
    """Tell whether `topic` is one that a client may publish to."""
    try:
        topic.encode()
    except UnicodeEncodeError:
        return False
    return bool(topic) and topic.isprintable() and topic[0] != "$" and not set(topic) & set("+#")


def _is_filter(text: str) -> bool:
    levels = text.split("/")
    return (
        bool(text)
        and "\0" not in text
        and all(level in {"+", "#"} or not set(level) & set("+#") for level in levels)
        and "#" not in levels[:-1]
    )
