"""The tensors of a Hugging Face directory, in one safetensors file or in shards."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edge_agent.errors import ModelError
from edge_agent.importers.safetensors_file import SafetensorsFile
from edge_agent.importers.safetensors_header import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.directory import Directory
    from edge_agent.importers.safetensors_header import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Far above any real checkpoint (a 405 B model has 191); each is an open file.
MAX_SHARDS = 512

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Open files and, by name, which of them holds a tensor."""

    files: Mapping[str, SafetensorsFile]

    def tensor(self, name: str) -> Tensor:
        """Return the tensor `name`, or raise ModelError."""
        if name not in self.files:
            msg = f"tensor {name!r} is missing"
            raise ModelError(msg)
        return self.files[name].tensors[name]

    def rows(self, name: str, start: int, stop: int) -> F32:
        """Return rows [start, stop) of the tensor `name`, as `SafetensorsFile.rows` does."""
        return self.files[name].rows(self.tensor(name), start, stop)


@contextmanager
def open_checkpoint(directory: Directory) -> Iterator[Checkpoint]:
    """Open the weights of `directory`: `model.safetensors`, or the shards that its index names.

    Raises:
        ModelError: there are none (pickles are never read), or they contradict the index.
    """
    with ExitStack() as stack:
        if directory.has(SINGLE):
            file = stack.enter_context(SafetensorsFile.opened(directory, SINGLE))
            yield Checkpoint(dict.fromkeys(file.tensors, file))
            return
        if not directory.has(INDEX):
            raise _no_weights(directory)
        shard_of = _shard_of(directory)
        shards = {
            name: stack.enter_context(SafetensorsFile.opened(directory, name))
            for name in sorted(set(shard_of.values()))
        }
        _check_index(shard_of, shards)
        yield Checkpoint({tensor: shards[name] for tensor, name in shard_of.items()})


class _Index(msgspec.Struct, frozen=True):
    """What we read of an index file."""

    weight_map: dict[str, str]


def _shard_of(directory: Directory) -> dict[str, str]:
    """Return the file name of each tensor, as the index has it."""
    content = directory.read_json(INDEX, limit_bytes=MAX_HEADER_BYTES)
    try:
        shard_of = msgspec.convert(content, _Index).weight_map
    except msgspec.ValidationError as exc:
        msg = f"{INDEX}: {exc}"
        raise ModelError(msg) from exc
    names = set(shard_of.values())
    if len(names) > MAX_SHARDS:
        msg = f"{INDEX}: {len(names)} files, the limit is {MAX_SHARDS}"
        raise ModelError(msg)
    if strange := sorted(name for name in names if not name.endswith(".safetensors")):
        msg = f"{INDEX}: {strange[0]!r} is no safetensors file"
        raise ModelError(msg)
    return shard_of


def _check_index(shard_of: dict[str, str], shards: dict[str, SafetensorsFile]) -> None:
    for tensor, name in shard_of.items():
        if tensor not in shards[name].tensors:
            msg = f"{INDEX}: {name} does not hold the tensor {tensor!r}"
            raise ModelError(msg)
    for name, shard in shards.items():
        for tensor in shard.tensors:
            if shard_of.get(tensor) != name:
                msg = f"{INDEX}: does not list the tensor {tensor!r} of {name}"
                raise ModelError(msg)


def _no_weights(directory: Directory) -> ModelError:
    if pickles := [name for name in directory.names() if name.endswith(_PICKLES)]:
        return ModelError(
            f"{directory.path}: {pickles[0]} is a pickle, which can run any code when it is read; "
            "convert the model to safetensors"
        )
    return ModelError(f"{directory.path}: neither {SINGLE} nor {INDEX} is there")
