"""The command line: one verb, one file."""

from __future__ import annotations


def main() -> int:
    """Run the verb that the command line names and return the exit status."""
    return 0
