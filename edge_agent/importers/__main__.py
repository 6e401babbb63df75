"""`python -m edge_agent.importers CARD WEIGHTS PACKAGE`: the import as a process of its own.

Exit status 0 means that PACKAGE is complete and on the disk. Errors are one sentence on standard
error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_agent.errors import EdgeError
from edge_agent.importers.package import import_gguf
from edge_agent.modelstore.card import read_card


def main(argv: list[str]) -> int:
    """Import as the command line says and return the exit status."""
    card, weights, package = map(Path, argv)
    try:
        import_gguf(weights, read_card(card), package)
    except (EdgeError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
