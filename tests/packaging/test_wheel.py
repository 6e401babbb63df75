"""What a user gets: the wheel's contents, built as pip would build it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edge_agent

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of all files in a freshly built wheel."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(out)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    assert wheel.name == f"edge_agent-{edge_agent.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_model_card(names: set[str]) -> None:
    cards = {f"edge_agent/models/{card.name}" for card in (ROOT / "models").glob("*.yaml")}

    assert cards
    assert cards <= names


def test_the_wheel_holds_every_module_and_its_types(names: set[str]) -> None:
    package = ROOT / "edge_agent"
    modules = {str(path.relative_to(ROOT)) for path in package.rglob("*.py")}

    assert modules | {"edge_agent/py.typed"} <= names


def test_the_wheel_holds_nothing_but_the_package_and_its_licence(names: set[str]) -> None:
    strangers = {
        name
        for name in names
        if not name.startswith(("edge_agent/", f"edge_agent-{edge_agent.__version__}.dist-info/"))
    }

    assert not strangers
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not any("__pycache__" in name for name in names)
