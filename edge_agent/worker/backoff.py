"""How long to wait before the next try. Arithmetic on plain values: chance is an argument."""

from __future__ import annotations

# The wait is drawn from [half, whole]: never none, so that a crash loop cannot spin, and spread,
# so that a site's gateways do not all load their models in the same second after a power cut.
LEAST_SHARE = 0.5


def wait_s(failures: int, *, first_s: float, longest_s: float, chance: float) -> float:
    """Return the wait after `failures` (>= 1) failures in a row; `chance` is drawn from [0, 1)."""
    # 2**63 would do; the cap keeps the power a small number.
    whole_s = min(longest_s, first_s * 2.0 ** min(failures - 1, 62))
    return whole_s * (LEAST_SHARE + (1 - LEAST_SHARE) * chance)
