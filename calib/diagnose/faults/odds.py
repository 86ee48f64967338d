"""Differences of log likelihood in words that people know."""

from __future__ import annotations

import math

__all__ = ["less_likely", "one_in"]

_PLAIN = 1e6  # times; beyond, only the power of ten means anything


def less_likely(nats: float) -> str:
    """``100 times less likely`` of 4.6 nats; what is ahead is ``2 times more likely``.

    Args:
        nats: difference of minus the natural log of the likelihood.
    """
    if not math.isfinite(nats):
        return "ruled out" if nats > 0 else "never ruled out"
    times = _times(abs(nats))
    if times == "1":
        return "as likely"
    return f"{times} times {'less' if nats > 0 else 'more'} likely"


def one_in(nats: float) -> str:
    """``1 in 100`` of 4.6 nats."""
    return f"1 in {_times(max(nats, 0.0))}" if math.isfinite(nats) else "never"


def _times(nats: float) -> str:
    """``1.6``, ``100``, ``160,000``, ``10^11``."""
    power = nats / math.log(10.0)
    if power >= math.log10(_PLAIN):
        return f"10^{power:.0f}"
    value = math.exp(nats)
    if value < 9.95:
        return f"{value:.1f}".removesuffix(".0")
    digits = math.floor(math.log10(value))
    return f"{round(value, 1 - digits):,.0f}"
