"""Makes a foreign chat template stand alone: the tokens it names are written into it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def with_tokens(template: str, tokens: Mapping[str, str]) -> str:
    """Return `template` with the variables in `tokens` set, as far as it mentions them.

    `tokens` maps `bos_token` and the like to what they stand for. A package's template is rendered
    with messages alone: whoever renders it need not know these tokens.
    """
    mentioned = {name: text for name, text in tokens.items() if mentions(template, name)}
    return "".join(_set(name, text) for name, text in mentioned.items()) + template


def mentions(template: str, name: str) -> bool:
    """Tell whether the variable `name` occurs in `template`."""
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def _set(name: str, text: str) -> str:
    # JSON's escapes are among jinja's. A line of its own, which jinja takes away whole: what
    # follows still begins a line, and its indentation is trimmed, or not, as before.
    return f"{{% set {name} = {json.dumps(text, ensure_ascii=False)} %}}\n"
