"""Which files of a foreign directory are opened, and which are refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory, naming, read_at

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "plain").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    return path


def test_a_regular_file_is_read(model: Path) -> None:
    directory = Directory(model)

    assert directory.has("plain")
    assert not directory.has("other")
    assert directory.read("plain", limit_bytes=7) == b"content"
    assert directory.names() == ["plain"]


def test_a_link_that_stays_inside_is_followed(model: Path) -> None:
    (model / "link").symlink_to("plain")

    assert Directory(model).read("link", limit_bytes=100) == b"content"


def test_the_directory_itself_may_be_a_link(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("model")

    assert Directory(tmp_path / "link").read("plain", limit_bytes=100) == b"content"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "/etc/passwd", "a/b", "a\\b", "a\0b", "n" * 256, "\ud800"]
)
def test_a_name_that_is_no_plain_name_is_refused(model: Path, name: str) -> None:
    with (
        pytest.raises(ModelError, match="not the plain name of a file"),
        Directory(model).open(name),
    ):
        pass


def test_what_is_no_file_of_the_directory_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "out").symlink_to(tmp_path / "secret")
    (model / "circle").symlink_to("circle")
    (model / "broken").symlink_to("nothing")
    (model / "below").mkdir()
    (model / "below" / "file").touch()
    (model / "deep").symlink_to("below/file")
    os.link(tmp_path / "secret", model / "hard")
    os.mkfifo(model / "pipe")
    directory = Directory(model)

    for name, problem in {
        "out": "a link that leaves",
        "deep": "a link that leaves",
        "circle": "circle: ",
        "broken": "No such file",
        "absent": "No such file",
        "below": "not a regular file",
        "pipe": "not a regular file",
        "hard": r"a hard link \(2 names\)",
    }.items():
        with pytest.raises(ModelError, match=problem), directory.open(name):
            pass


def test_a_large_file_is_refused_before_it_is_read(model: Path) -> None:
    with (model / "large").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(ModelError, match="large: 1099511627776 bytes, the limit is 1000"):
        Directory(model).read("large", limit_bytes=1000)


def test_json_is_read_strictly(model: Path) -> None:
    (model / "good.json").write_text('{"a": 1}')
    (model / "bad.json").write_text('{"a": 1, "a": 1}')
    directory = Directory(model)

    assert directory.read_json("good.json", limit_bytes=100) == {"a": 1}
    with pytest.raises(ModelError, match=r"bad\.json: .*'a' comes twice"):
        directory.read_json("bad.json", limit_bytes=100)


def test_a_directory_that_is_none_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="not a directory"):
        Directory(model / "plain")
    with pytest.raises(ModelError, match="No such file"):
        Directory(model / "nothing")


def test_reading_past_the_end_says_where(model: Path) -> None:
    with Directory(model).open("plain") as fd:
        assert bytes(read_at(fd, 3, 4)) == b"tent"
        with pytest.raises(ModelError, match="cut short: byte 7"):
            read_at(fd, 3, 5)


def test_a_failing_disk_is_a_model_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)  # reading a directory fails as a disk does
    try:
        with pytest.raises(ModelError, match="Is a directory"):
            read_at(fd, 0, 1)
    finally:
        os.close(fd)


def test_the_name_of_a_file_goes_before_its_problem() -> None:
    with pytest.raises(ModelError, match=r"^file: problem$"), naming("file"):
        raise ModelError("problem")  # noqa: EM101
