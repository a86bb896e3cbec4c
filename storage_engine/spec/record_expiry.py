"""Rows that are dropped once they are old: ``record-level.expire-time`` and ``record-level.time-field``.

Spec: "Record-Level expire" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage_engine.errors import InvalidOption
from storage_engine.options import parse_duration_ms
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import TIMESTAMP_ROOTS, DataField, TypeRoot

_TIME, _FIELD = "record-level.expire-time", "record-level.time-field"
_ROOTS = TIMESTAMP_ROOTS | {TypeRoot.INT, TypeRoot.BIGINT}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordExpiry:
    """Rows whose ``field`` is more than ``seconds`` ago are old. INT and BIGINT count epoch seconds, BIGINT milliseconds too."""

    seconds: int
    field: DataField

    @staticmethod
    def of(schema: TableSchema) -> RecordExpiry | None:
        """What a table declares. Raises InvalidOption."""
        if _TIME not in schema.options:
            return None
        text = schema.options[_TIME]
        try:
            seconds = parse_duration_ms(text) // 1000
        except ValueError as cause:
            raise InvalidOption(f"option {_TIME!r} is {text!r}: {cause}") from cause
        name = schema.options.get(_FIELD)
        if name is None:
            raise InvalidOption(f"option {_TIME!r} needs {_FIELD!r}, the column that says how old a row is")
        field = schema.by_name.get(name)
        if field is None or field.type.root not in _ROOTS:
            raise InvalidOption(f"option {_FIELD!r} names {name!r}: expected a column of type INT, BIGINT or TIMESTAMP")
        return RecordExpiry(seconds=seconds, field=field)
