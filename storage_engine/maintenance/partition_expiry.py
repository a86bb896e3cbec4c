"""Which partitions have outlived their time.

Spec: "Manage Partitions / Expiring Partitions" of Apache Paimon 1.3.1. A partition whose values spell no time never expires by
them. Only decided here: emptying partitions is a commit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.errors import InvalidInput, InvalidOption
from storage_engine.lifecycle_options import LifecycleOptions, PartitionExpiration
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.table_store import TableStore

_JAVA_PATTERN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")
_JAVA_LETTERS = {
    "yyyy": "%Y", "uuuu": "%Y", "yy": "%y", "MM": "%m", "M": "%m", "dd": "%d", "d": "%d",
    "HH": "%H", "H": "%H", "mm": "%M", "m": "%M", "ss": "%S", "s": "%S", "SSS": "%f", "SSSSSS": "%f",
}  # fmt: skip
_USUAL_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d")


def expired_partitions(
    store: TableStore,
    schema: TableSchema,
    options: LifecycleOptions,
    snapshot: Snapshot | None,
    *,
    now: datetime,
) -> list[dict[str, object]]:
    """The partitions to empty, in full, at most ``partition.expiration-max-num``. ``now`` is local wall-clock time.

    Raises InvalidInput for a table without partitions or without ``partition.expiration-time``, InvalidOption.
    """
    keys = schema.partition_keys
    if not keys or options.partition_expiration_ms is None:
        raise InvalidInput(
            f"{store.paths.root}: partitions expire by 'partition.expiration-time' of a partitioned table; set it first"
        )
    limit = now - timedelta(milliseconds=options.partition_expiration_ms)
    types = schema.types_of(keys)
    newest: dict[bytes, int] = {}
    for entry in LiveFiles(store, schema).entries(snapshot):
        newest[entry.partition] = max(newest.get(entry.partition, 0), entry.file.creation_time_millis or 0)
    found = [(deserialize_row(types, partition), millis) for partition, millis in newest.items()]
    if options.partition_expiration is PartitionExpiration.UPDATE_TIME:
        expired = [values for values, millis in found if datetime.fromtimestamp(millis / 1000) < limit]  # noqa: DTZ006
    else:
        read = _TimeOf(keys, options)
        expired = [values for values, _ in found if _is_before(read.time_of(values), limit)]
    ordered = sorted(expired, key=lambda values: [str(value) for value in values])
    return [dict(zip(keys, values, strict=True)) for values in ordered[: options.partition_max_expired]]


def _is_before(time: datetime | None, limit: datetime) -> bool:
    return time is not None and time < limit


class _TimeOf:
    """Reads the time that a partition's values spell."""

    def __init__(self, keys: Sequence[str], options: LifecycleOptions) -> None:
        self._keys = keys
        self._pattern = options.partition_pattern
        self._formats: tuple[str, ...] = _USUAL_FORMATS
        if options.partition_formatter is not None:
            self._formats = (strptime_format(options.partition_formatter),)

    def time_of(self, values: Sequence[object]) -> datetime | None:
        """The time, None if the values spell none."""
        text = self._text(dict(zip(self._keys, values, strict=True)))
        for format_ in self._formats if text is not None else ():
            try:
                return datetime.strptime(text or "", format_)  # noqa: DTZ007 - local wall clock, as Paimon reads it
            except ValueError:
                continue
        return None

    def _text(self, values: Mapping[str, object]) -> str | None:
        if self._pattern is None:
            first = values[self._keys[0]]
            return None if first is None else str(first)
        text = self._pattern
        for key, value in values.items():
            if f"${key}" in text and value is None:
                return None
            text = text.replace(f"${key}", str(value))
        return text


def strptime_format(java: str) -> str:
    """A pattern of Java's DateTimeFormatter, such as ``yyyy-MM-dd'T'HH``, as ``strptime`` reads it. Raises InvalidOption."""
    pieces, at = [], 0
    for match in _JAVA_PATTERN.finditer(java):
        if match.start() != at:
            break
        at = match.end()
        literal, text = match.group(1), match.group()
        if match.group(2) is not None and text not in _JAVA_LETTERS:
            raise InvalidOption(
                f"option 'partition.timestamp-formatter' is {java!r}: {text!r} is not read here; known: yyyy MM dd HH mm ss SSS"
            )
        plain = (literal.replace("''", "'") or "'") if literal is not None else text
        pieces.append(_JAVA_LETTERS[text] if match.group(2) is not None else plain.replace("%", "%%"))
    if at != len(java):
        raise InvalidOption(f"option 'partition.timestamp-formatter' is {java!r}: a quote is not closed")
    return "".join(pieces)
