"""A request on its way to peers: how far it may go, and how much room it takes there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.messages import Role
from edge_agent.serving.sizing import LEAST_ANSWER_TOKENS, size_of

if TYPE_CHECKING:
    from edge_agent.messages import Policy, Request

# Over a whole prompt, white space apart, no vocabulary comes near this: words of English are 4 to
# 5 bytes a token, and the longest tokens there are, rows of one sign, are rare in any text.
MOST_BYTES_PER_TOKEN = 16
_SPACES = " \n\t\r"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What peers are asked for. Tokens are estimates: each of them has a vocabulary of its own."""

    request: Request
    policy: Policy
    least_tokens: int
    """Its prompt has at least so many tokens, whoever counts them."""
    likely_tokens: int
    """Its prompt has hardly more than these."""

    @classmethod
    def of(cls, request: Request, policy: Policy) -> Errand:
        """Return `request` under `policy`, sized up."""
        dense = sum(
            _dense_bytes(message.content)
            for message in request.messages
            # Templates may leave thoughts out of earlier answers.
            if message.role in {Role.SYSTEM, Role.USER}
        )
        return cls(
            request=request,
            policy=policy,
            least_tokens=dense // MOST_BYTES_PER_TOKEN,
            likely_tokens=size_of(request, longest_token_bytes=None).likely_tokens,
        )

    @property
    def room_tokens(self) -> int:
        """Tokens that prompt and answer will hardly exceed together."""
        most = self.request.max_tokens
        return self.likely_tokens + (LEAST_ANSWER_TOKENS if most is None else most)


def _dense_bytes(text: str) -> int:
    """Return the bytes of `text` without white space, of which runs of any length are a token."""
    return len(text.encode("utf-8", "surrogatepass")) - sum(map(text.count, _SPACES))
