"""Has a child process import weights into a package directory, and shows how far it is."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from edge_agent.modelstore.child import Child
from edge_agent.modelstore.disk import written_bytes
from edge_agent.modelstore.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_agent.modelstore.workshop import Workshop


def run_import(
    workshop: Workshop,
    source: Path,
    package: Path,
    options: Sequence[str],
    *,
    about_bytes: int,
    module: str = "edge_agent.importers",
) -> None:
    """Have `module` import `source` into the new directory `package`, which gets `about_bytes`.

    What the import has to say about the package is shown.

    Raises:
        ModelError: the import fails; the sentence ends with its own words.
    """
    show = workshop.progress.stage(Stage.IMPORT, about_bytes)
    argv = [sys.executable, "-m", module, str(source), str(package)]
    named = ["--name", workshop.name, *options]
    told = Child(workshop.staging, lock_fd=workshop.lock_fd, environ=os.environ).run(
        "import", [*argv, *named], lambda: show(min(written_bytes(package), about_bytes))
    )
    show(about_bytes)
    for line in told.splitlines():
        workshop.progress.say(line)
