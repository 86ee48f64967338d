"""A few utterances that stand for a corpus: from all over it and from its speakers, the same ones every time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

from calib.data.sources.base import Item

__all__ = ["halving", "spread_over"]

T = TypeVar("T")


def spread_over(items: Sequence[Item]) -> list[Item]:
    """All items in an order whose first few come from all over the source and from as many speakers as there are.

    By turns one of each speaker; speakers and the items of each are halved again and again (0, 1/2, 1/4, 3/4, ...), so
    the order is that of the index alone.
    """
    groups: dict[str | None, list[Item]] = {}
    for item in items:
        groups.setdefault(item.speaker, []).append(item)
    queues = [halving(group) for group in halving(list(groups.values()))]
    turns = itertools.zip_longest(*queues)
    return [item for turn in turns for item in turn if item is not None]


def halving(values: Sequence[T]) -> list[T]:
    """The first, the middle one, those at the quarters, at the eighths, ..."""
    bits = max(len(values) - 1, 0).bit_length()
    order = (int(f"{k:0{bits}b}"[::-1], 2) * len(values) >> bits if bits else 0 for k in range(1 << bits))
    return [values[place] for place in dict.fromkeys(order)] if values else []
