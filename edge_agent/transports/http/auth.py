"""API keys: read from a file, kept as digests, compared without telling how near a guess was."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from edge_agent.errors import ConfigError

# A shorter key is a word, and words are guessed; `openssl rand -hex 16` gives 32.
LEAST_KEY_CHARS = 16
_SCHEME = "bearer"
# 64 bits: two keys of one file never share a name.
_NAME_CHARS = 16


class ApiKeys:
    """The keys that open this server."""

    def __init__(self, keys: list[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def accept(self, authorization: str | None) -> bool:
        """Return whether an `Authorization` header carries one of the keys.

        Every key is compared, each in constant time: the duration tells neither which key nor how
        much of one was right. Digests make all lengths equal.
        """
        scheme, _, key = (authorization or "").partition(" ")
        offered = _digest(key.strip())
        matches = [hmac.compare_digest(offered, known) for known in self._digests]
        return any(matches) and scheme.lower() == _SCHEME


def key_name(authorization: str | None) -> str:
    """Return a name for the key in an `Authorization` header, by which nobody can tell the key."""
    _, _, key = (authorization or "").partition(" ")
    return _digest(key.strip()).hex()[:_NAME_CHARS]


def load_keys(path: str, setting: str) -> ApiKeys:
    """Read keys from `path`, one per line; empty lines and those that begin with `#` are none.

    `setting` is the key of the configuration that names the file.

    Raises:
        ConfigError: the file cannot be read, holds no key, or one that is too short.
    """
    where = f"{setting} {path}"
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(where, str(exc)) from exc
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        problem = "holds no key"
        raise ConfigError(where, problem)
    if any(len(key) < LEAST_KEY_CHARS for key in keys):
        problem = f"a key is shorter than {LEAST_KEY_CHARS} characters"
        raise ConfigError(where, problem)
    return ApiKeys(keys)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
