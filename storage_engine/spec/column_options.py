"""Options that name columns, such as ``sequence.field`` and ``fields.a,b.sequence-group``."""

from __future__ import annotations

from collections.abc import Mapping

_NAME_LISTS = ("bucket-key", "sequence.field", "rowkind.field", "record-level.time-field")
_FIELD_OPTION = "fields."
_LISTS_IN_VALUE = (".sequence-group", ".nested-key")


def renamed_options(options: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Options with the columns that they name renamed, in keys such as ``fields.a,b.sequence-group`` too."""
    renamed = {}
    for key, value in options.items():
        if key in _NAME_LISTS:
            renamed[key] = _renamed_list(value, names)
        elif key.startswith(_FIELD_OPTION) and key.count(".") > 1:
            columns, _, suffix = key.removeprefix(_FIELD_OPTION).rpartition(".")
            has_names = f".{suffix}" in _LISTS_IN_VALUE
            new_key = f"{_FIELD_OPTION}{_renamed_list(columns, names)}.{suffix}"
            renamed[new_key] = _renamed_list(value, names) if has_names else value
        else:
            renamed[key] = value
    return renamed


def _renamed_list(text: str, names: Mapping[str, str]) -> str:
    return ",".join(names.get(name.strip(), name.strip()) for name in text.split(","))
