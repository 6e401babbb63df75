"""Counts what was left unanswered, by reason: the first of a kind is a warning, the rest detail."""

from __future__ import annotations

import logging
from collections import Counter

logger = logging.getLogger(__name__)


class Drops:
    """How many messages (or callbacks) were dropped, and why."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        level = logging.WARNING if self.counts[reason] == 1 else logging.DEBUG
        logger.log(level, "message dropped reason=%s count=%d", reason, self.counts[reason])
