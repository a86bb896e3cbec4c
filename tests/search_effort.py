"""How hard the property tests search: ``LAKEHOUSE_SEARCH=20`` is twenty times the examples, at random."""

from __future__ import annotations

import os

SEARCH = int(os.environ.get("LAKEHOUSE_SEARCH", "0"))


def examples(count: int) -> int:
    """How many examples a property gets that is content with ``count`` of them in every run."""
    return count * max(SEARCH, 1)
