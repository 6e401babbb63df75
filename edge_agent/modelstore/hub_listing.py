"""`python -m edge_agent.modelstore.hub_listing REPO REVISION FILE`: what a hub has, as JSON.

A process of its own, because the hub's library is large. It fetches facts only: its own downloads
start over when the process was killed, ours resume.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import msgspec
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from edge_agent.modelstore.hub import Listed, Listing
from edge_agent.modelstore.retry import TRANSIENT_STATUS, Patience, asked_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub.hf_api import ModelInfo

_ANSWER_LIMIT_S = 30.0
_GATED = (
    "{repo} is gated: accept its terms at the hub, download it there, and bring it here with"
    " `edge-agent model import`"
)


def main(argv: list[str]) -> int:
    """Write the listing of a repository's revision to a file and return the exit status."""
    repo, revision, path = argv
    try:
        listing = _list(repo, _ask(repo, revision, Patience()))
    except (OSError, httpx2.HTTPError, ValueError) as exc:
        sys.stderr.write(f"{_sentence(repo, revision, exc)}\n")
        return 1
    Path(path).write_bytes(msgspec.json.encode(listing))
    return 0


def _ask(repo: str, revision: str, patience: Patience) -> ModelInfo:
    failures = 0
    while True:
        try:
            return HfApi(token=False).model_info(
                repo, revision=revision, files_metadata=True, timeout=_ANSWER_LIMIT_S
            )
        except (HfHubHTTPError, httpx2.TransportError) as exc:
            failures += 1
            pause_s = _pause_s(exc, failures, patience)
            if pause_s is None:
                raise
        time.sleep(pause_s)


def _pause_s(error: Exception, failures: int, patience: Patience) -> float | None:
    """Return how long to wait before asking again; None if that is of no use."""
    if not isinstance(error, HfHubHTTPError):
        return patience.pause_s(failures, None)
    if error.response.status_code not in TRANSIENT_STATUS:
        return None
    wanted_s = asked_s(error.response.headers.get("Retry-After"), time.time())
    return patience.pause_s(failures, wanted_s)


def _list(repo: str, info: ModelInfo) -> Listing:
    if info.gated:  # its list is open, its files are not
        raise ValueError(_GATED.format(repo=repo))
    return Listing(commit=info.sha or "", files=tuple(_files(repo, info)))


def _files(repo: str, info: ModelInfo) -> Iterator[Listed]:
    for file in info.siblings or ():
        if file.size is not None:
            yield Listed(
                path=file.rfilename,
                bytes=file.size,
                url=hf_hub_url(repo, file.rfilename, revision=info.sha),
                sha256=file.lfs.sha256 if file.lfs else None,
                git_blob=file.blob_id,
            )


def _sentence(repo: str, revision: str, error: Exception) -> str:
    match error:
        case RevisionNotFoundError():
            said = f"{repo} has no revision {revision}"
        case GatedRepoError():
            said = _GATED.format(repo=repo)
        case RepositoryNotFoundError():
            said = f"the hub has no repository {repo} that is open to everybody"
        case HfHubHTTPError():
            wait = error.response.headers.get("Retry-After")
            asked = f" and asks to wait {wait} s" if wait else ""
            said = f"the hub answers {error.response.status_code} for {repo}{asked}"
        case ValueError():
            said = str(error)
        case _:
            said = f"no connection to the hub ({str(error) or type(error).__name__})"
    return " ".join(said.split())  # one line: of several, the parent would show the last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
