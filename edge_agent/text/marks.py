"""Marks around everything a stranger wrote, so that it is known as such after the template ran.

A mark is a tag with a number nobody can guess. What stands between two of them is text, whatever it
looks like; control tokens are looked for outside only.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Templates compare these or look them up, so they stay as they are: no control token is made of
# JSON schema's own words.
_PLAIN_WORDS = frozenset(
    [
        "additionalProperties",
        "anyOf",
        "arguments",
        "array",
        "boolean",
        "default",
        "description",
        "enum",
        "function",
        "id",
        "integer",
        "items",
        "maximum",
        "minimum",
        "name",
        "null",
        "number",
        "object",
        "parameters",
        "properties",
        "required",
        "string",
        "title",
        "type",
    ]
)


class Marks:
    """The marks of one rendering."""

    def __init__(self) -> None:
        # Digits alone: no filter that changes case could hide a mark from the check in `split`.
        self._nonce = str(secrets.randbits(128))
        self._opening, self._closing = f"<{self._nonce}>", f"</{self._nonce}>"
        self._tag = re.compile(f"</?{self._nonce}>")
        self._marked = re.compile(f"{self._opening}(.*?){self._closing}", re.DOTALL)

    def text(self, text: str) -> str:
        """Return `text` marked; nothing stays nothing, for templates that ask whether it is."""
        return f"{self._opening}{text}{self._closing}" if text else ""

    def tree(self, value: object) -> object:
        """Return a JSON value with every string of it marked, names too."""
        match value:
            case str():
                return value if value in _PLAIN_WORDS else self.text(value)
            case dict():
                return {self.tree(name): self.tree(entry) for name, entry in value.items()}
            case list():
                return [self.tree(entry) for entry in value]
            case _:
                return value

    def json(self, value: object, style: Mapping[str, Any] | None = None) -> str:
        """Return a value, marked inside or not, as JSON text that is marked as a whole.

        `style` goes to `json.dumps`.
        """
        written = json.dumps(value, **{"ensure_ascii": False, **(style or {})})
        return self.text(self._tag.sub("", written))

    def trim(self, text: str) -> str:
        """Return `text` without white space at its ends, inside of marks if it is all marked."""
        if whole := self._marked.fullmatch(text):
            return self.text(whole[1].strip())
        return text.strip()

    def split(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """Yield `rendered` in pieces, each with whether a stranger wrote it.

        Raises:
            ModelError: the template took a marked text apart.
        """
        # split() with one group alternates: outside, inside, outside, …
        for i, part in enumerate(self._marked.split(rendered)):
            if self._nonce in part:
                msg = "chat template: cuts or nests parts of a message, which is not supported"
                raise ModelError(msg)
            yield part, bool(i % 2)
