"""A directory of foreign files: only regular files that lie in it are ever opened.

Names come from strangers (an index file, a configuration). A name with a path in it, a link that
leaves the directory, a second name of a file elsewhere (hard link) and a device are all refused.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edge_agent.errors import ModelError
from edge_agent.importers.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What file systems allow; a longer name could not exist.
MAX_NAME_BYTES = 255


class Directory:
    """A directory that a door reads.

    Raises:
        ModelError: there is none at that path.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.path = path.resolve(strict=True)
        except (OSError, RuntimeError) as exc:  # RuntimeError: links in a circle
            msg = f"{path}: {exc}"
            raise ModelError(msg) from exc
        if not self.path.is_dir():
            msg = f"{path}: not a directory"
            raise ModelError(msg)

    def names(self) -> list[str]:
        """Return the names of what lies in the directory, sorted."""
        try:
            return sorted(path.name for path in self.path.iterdir())
        except OSError as exc:
            msg = f"{self.path}: {exc}"
            raise ModelError(msg) from exc

    def has(self, name: str) -> bool:
        """Return whether there is anything called `name`."""
        return os.path.lexists(self._inside(name))

    @contextmanager
    def open(self, name: str) -> Iterator[int]:
        """Yield a descriptor of the regular file `name`, open for reading.

        Raises:
            ModelError: it is missing, cannot be read, or is refused as the module says.
        """
        try:
            real = self._inside(name).resolve(strict=True)
            if real.parent != self.path:
                msg = f"{name}: a link that leaves {self.path}"
                raise ModelError(msg)
            # Non-blocking: opening a named pipe would wait for its writer.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(real, flags)
        except (OSError, RuntimeError) as exc:  # RuntimeError: links in a circle
            msg = f"{name}: {exc}"
            raise ModelError(msg) from exc
        try:
            _check_plain(name, os.fstat(fd))
            yield fd
        finally:
            os.close(fd)

    def read(self, name: str, *, limit_bytes: int) -> bytes:
        """Return the content of the file `name`.

        Raises:
            ModelError: as `open`, or larger than `limit_bytes`.
        """
        with self.open(name) as fd:
            size = os.fstat(fd).st_size
            if size > limit_bytes:
                msg = f"{name}: {size} bytes, the limit is {limit_bytes}"
                raise ModelError(msg)
            with naming(name):
                return read_at(fd, 0, size).tobytes()

    def read_json(self, name: str, *, limit_bytes: int) -> dict[str, Any]:
        """Return the JSON object in the file `name`.

        Raises:
            ModelError: as `read`, or as `strict_json.parse_object`.
        """
        return parse_object(self.read(name, limit_bytes=limit_bytes), name)

    def _inside(self, name: str) -> Path:
        plain = name not in {"", ".", ".."} and not {"/", "\\", "\0"} & set(name)
        try:
            plain = plain and len(os.fsencode(name)) <= MAX_NAME_BYTES
        except UnicodeEncodeError:  # half of a surrogate pair
            plain = False
        if not plain:
            msg = f"{name[:MAX_NAME_BYTES]!r} is not the plain name of a file"
            raise ModelError(msg)
        return self.path / name


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the `name` of a file before every ModelError of what is done inside."""
    try:
        yield
    except ModelError as exc:
        msg = f"{name}: {exc}"
        raise ModelError(msg) from exc


def read_at(fd: int, offset: int, num_bytes: int) -> memoryview:
    """Return `num_bytes` of the file from `offset` on, a writable copy.

    Reads, where a mapping would count towards the resident memory of this process.

    Raises:
        ModelError: the file ends before, or the disk fails.
    """
    data = memoryview(bytearray(num_bytes))
    done = 0
    while done < num_bytes:
        try:
            count = os.preadv(fd, [data[done:]], offset + done)
        except OSError as exc:
            raise ModelError(str(exc)) from exc
        if not count:
            msg = f"cut short: byte {offset + done} is past its end"
            raise ModelError(msg)
        done += count
    return data


def _check_plain(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        msg = f"{name}: not a regular file"
        raise ModelError(msg)
    if status.st_nlink > 1:
        msg = f"{name}: a hard link ({status.st_nlink} names); copy the file"
        raise ModelError(msg)
