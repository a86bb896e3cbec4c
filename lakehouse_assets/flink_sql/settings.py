"""SET and RESET: which of Flink's settings count, and which values of them would change what a statement gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from difflib import get_close_matches
from typing import Final

from lakehouse_assets.flink_sql.errors import Place

RUNTIME_MODE: Final = "execution.runtime-mode"
NULL_ENFORCER: Final = "table.exec.sink.not-null-enforcer"
_SETTING: Final = re.compile(r"(SET|RESET)(?:\s+'([^']*)'(?:\s*=\s*'([^']*)')?)?\s*$", re.IGNORECASE)
_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    RUNTIME_MODE: ("streaming", "batch"),
    NULL_ENFORCER: ("error", "drop"),
    "table.local-time-zone": ("utc", "etc/utc", "gmt", "+00:00", "default"),
    "table.sql-dialect": ("default",),
    "table.exec.legacy-cast-behaviour": ("disabled",),
    "table.exec.sink.type-length-enforcer": ("ignore",),
}
"""What may be set, where another value would give other rows; all other settings have no effect on them."""
_MUCH_ALIKE: Final = 0.9


def read_setting(text: str, settings: MutableMapping[str, str], place: Place) -> None:
    """Take a SET or RESET into what is set. Raises SqlError for what is none, and for values that would change rows."""
    found = _SETTING.match(text)
    if found is None:
        raise place.error(f"{text}: expected SET 'key' = 'value' or RESET 'key', both in single quotes")
    word, key, value = found.groups()
    if value is not None:
        known = _VALUES.get(key)
        close = get_close_matches(key, _VALUES, 1, _MUCH_ALIKE)
        if known is None and close and not key.startswith(close[0]):
            raise place.error(f"SET {key!r} is not known: did you mean {close[0]!r}?")
        if known is not None and value.strip().lower() not in known:
            raise place.error(
                f"{key!r} is {value!r}, which would change what statements give; known: {', '.join(map(repr, known)).upper()}"
            )
        settings[key] = value.strip().lower()
    elif word.upper() == "RESET" and key is None:
        settings.clear()
    elif word.upper() == "RESET":
        settings.pop(key, None)
