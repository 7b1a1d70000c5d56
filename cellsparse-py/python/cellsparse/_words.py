"""Words that depend on a number."""

from __future__ import annotations


def counted(count: int, one: str) -> str:
    """A number with what it counts: `1 object`, `2 objects`."""
    return f"{count} {one}{'' if count == 1 else 's'}"
