"""Keys of table options that are much like a known one: Paimon keeps what it does not know, and a slip would go unnoticed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from storage_engine.errors import InvalidOption
from storage_engine.lifecycle_options import LIFECYCLE_KEYS
from storage_engine.options import OPTION_KEYS

_MUCH_ALIKE: Final = 0.9
_KNOWN: Final = frozenset((*OPTION_KEYS, *LIFECYCLE_KEYS))
_OTHER: Final = frozenset(("partition.timestamp-format.strict", "snapshot.expire.clean-empty-directories"))
"""Options of Paimon that are much like known ones."""
_FIELDS: Final = "fields."
_OF_A_FIELD: Final = (
    "aggregate-function", "ignore-retract", "list-agg-delimiter", "distinct", "nested-key", "sequence-group",
    "default-aggregate-function",
)  # fmt: skip


def check_spelling(keys: Iterable[str]) -> None:
    """Raises InvalidOption for a key that is not known, and much like one that is."""
    for key in keys:
        head, _, last = key.rpartition(".")
        is_field = key.startswith(_FIELDS)
        known = [f"{head}.{each}" for each in _OF_A_FIELD] if is_field else _KNOWN | _OTHER
        word, words = (last, list(_OF_A_FIELD)) if is_field else (key, sorted(_KNOWN))
        close = get_close_matches(word.lower(), words, 1, _MUCH_ALIKE)
        if key not in known and close:
            meant = f"{head}.{close[0]}" if is_field else close[0]
            raise InvalidOption(f"option {key!r} is not known: did you mean {meant!r}?")
