"""The least whole number that is enough."""

from __future__ import annotations

from collections.abc import Callable


def fewest(enough: Callable[[int], bool], least: int = 1, most: int | None = None) -> int:
    """The least number from `least` on for which `enough` holds; once it holds, it must hold for all that are larger.

    The search by doubling ends at the first power of two times `least` that is not below `most`, enough or not.

    >>> fewest(lambda n: n * n >= 30)
    6
    """
    low, high = least - 1, least
    while (most is None or high < most) and not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
