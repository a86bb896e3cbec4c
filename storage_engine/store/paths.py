"""Every directory and file name of a table; nothing else knows one.

Spec: Paimon's file layout. A branch has its own schemas, snapshots, tags, consumers and changelogs; data,
manifests, index files and statistics of all branches lie in the main directories.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal

from storage_engine.errors import CorruptFile, InvalidInput, InvalidRows, Unsupported
from storage_engine.options import TableOptions
from storage_engine.spec.types import DataType, TypeRoot

MAIN_BRANCH = "main"
POSTPONE_BUCKET = -2
LATEST = "LATEST"
EARLIEST = "EARLIEST"

_SNAPSHOT, _SCHEMA, _TAG, _CONSUMER = "snapshot-", "schema-", "tag-", "consumer-"
_CHANGELOG, _BRANCH = "changelog-", "branch-"
_TAG_SUCCESS_DIRECTORY = "tag-success-file"
_ESCAPED = re.compile(r"""[\x01-\x1f\x7f"#%'*/:=?\\{}\[\]^]""")
_UNSAFE_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")
_NOT_JAVA_WHITESPACE = "\x85\xa0\u2007\u202f"
_NANOS_PER_SECOND = 1_000_000_000
_MAX_NAME_BYTES = 200


@dataclass(frozen=True, slots=True)
class TablePaths:
    """Where the files of one branch of a table are.

    ``root`` is the table's directory inside its file system.
    """

    root: str
    branch: str = MAIN_BRANCH

    @property
    def branch_root(self) -> str:
        """The directory of the branch's own metadata: the table's root for the main branch."""
        return self.root if self.branch == MAIN_BRANCH else f"{self.branches}/{_BRANCH}{self.branch}"

    @property
    def branches(self) -> str:
        """The directory of all branches but main."""
        return f"{self.root}/branch"

    @property
    def schemas(self) -> str:
        """The directory of schema files."""
        return f"{self.branch_root}/schema"

    @property
    def snapshots(self) -> str:
        """The directory of snapshot files and their hints."""
        return f"{self.branch_root}/snapshot"

    @property
    def tags(self) -> str:
        """The directory of tags."""
        return f"{self.branch_root}/tag"

    @property
    def consumers(self) -> str:
        """The directory of consumer positions."""
        return f"{self.branch_root}/consumer"

    @property
    def changelogs(self) -> str:
        """The directory of changelogs that outlive their snapshots."""
        return f"{self.branch_root}/changelog"

    @property
    def manifests(self) -> str:
        """The directory of manifests, manifest lists and index manifests."""
        return f"{self.root}/manifest"

    @property
    def indexes(self) -> str:
        """The directory of index files."""
        return f"{self.root}/index"

    @property
    def statistics(self) -> str:
        """The directory of table statistics."""
        return f"{self.root}/statistics"

    def schema_file(self, schema_id: int) -> str:
        """The file of one schema."""
        return f"{self.schemas}/{_SCHEMA}{schema_id}"

    def snapshot_file(self, snapshot_id: int) -> str:
        """The file of one snapshot."""
        return f"{self.snapshots}/{_SNAPSHOT}{snapshot_id}"

    def snapshot_hint_file(self, hint: str) -> str:
        """The file of a hint, ``LATEST`` or ``EARLIEST``."""
        return f"{self.snapshots}/{hint}"

    def tag_file(self, name: str) -> str:
        """The file of one tag."""
        return f"{self.tags}/{_TAG}{name}"

    def tag_success_file(self, name: str) -> str:
        """The file that says that a tag is complete (option ``tag.create-success-file``)."""
        check_stored_name(name, path=self.tags)
        return f"{self.tags}/{_TAG_SUCCESS_DIRECTORY}/{name}_SUCCESS"

    def consumer_file(self, name: str) -> str:
        """The file of one consumer."""
        return f"{self.consumers}/{_CONSUMER}{name}"

    def changelog_file(self, snapshot_id: int) -> str:
        """The file of one changelog that outlived its snapshot."""
        return f"{self.changelogs}/{_CHANGELOG}{snapshot_id}"

    def manifest_file(self, name: str) -> str:
        """The file of a manifest, manifest list or index manifest."""
        return f"{self.manifests}/{name}"

    def index_file(self, name: str) -> str:
        """The file of an index."""
        return f"{self.indexes}/{name}"

    def statistics_file(self, name: str) -> str:
        """The file of a table statistic."""
        return f"{self.statistics}/{name}"

    def partition_directory(self, partition_path: str) -> str:
        """The directory of a partition; ``partition_path`` is its path below the table's, "" if that is the table's."""
        return f"{self.root}/{partition_path}" if partition_path else self.root

    def bucket_directory(self, partition_path: str, bucket: int) -> str:
        """The directory of a bucket; ``partition_path`` as above."""
        return bucket_directory(self.partition_directory(partition_path), bucket)

    def of_branch(self, branch: str) -> TablePaths:
        """The paths of another branch of the same table."""
        return TablePaths(self.root, branch)


class FileNames:
    """New file names of one writer: a random id and a counter for each prefix, so no two are ever equal."""

    def __init__(self, prefix: str, suffix: str = "") -> None:
        self._prefix = f"{prefix}{uuid.uuid4()}-"
        self._suffix = suffix
        self._counter = itertools.count()

    def next(self) -> str:
        """The next name. Safe between threads."""
        return f"{self._prefix}{next(self._counter)}{self._suffix}"


def bucket_directory(partition_directory: str, bucket: int) -> str:
    """The directory of a bucket of a partition."""
    return f"{partition_directory}/{'bucket-postpone' if bucket == POSTPONE_BUCKET else f'bucket-{bucket}'}"


def ids_in(names: Sequence[str], prefix: str) -> list[int]:
    """The numbers of files such as ``snapshot-7`` in a listing, ascending; everything else is skipped."""
    pattern = re.compile(re.escape(prefix) + r"(0|[1-9]\d{0,18})")
    return sorted(int(match.group(1)) for match in map(pattern.fullmatch, names) if match)


def snapshot_ids_in(names: Sequence[str]) -> list[int]:
    """Snapshot ids in a listing of the snapshot directory."""
    return ids_in(names, _SNAPSHOT)


def schema_ids_in(names: Sequence[str]) -> list[int]:
    """Schema ids in a listing of the schema directory."""
    return ids_in(names, _SCHEMA)


def changelog_ids_in(names: Sequence[str]) -> list[int]:
    """Ids in a listing of the changelog directory."""
    return ids_in(names, _CHANGELOG)


def _named(names: Sequence[str], prefix: str) -> list[str]:
    return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix) and name != prefix)


def tag_names_in(names: Sequence[str]) -> list[str]:
    """Tag names in a listing of the tag directory."""
    return [name for name in _named(names, _TAG) if _TAG + name != _TAG_SUCCESS_DIRECTORY]


def consumer_names_in(names: Sequence[str]) -> list[str]:
    """Consumer ids in a listing of the consumer directory."""
    return _named(names, _CONSUMER)


def branch_names_in(names: Sequence[str]) -> list[str]:
    """Branch names in a listing of the branch directory."""
    return _named(names, _BRANCH)


def check_given_name(name: str, what: str) -> None:
    """Refuse a name (of a tag, branch, consumer) that could not be a file name. Raises InvalidInput."""
    if not name.strip() or _UNSAFE_NAME.search(name) or len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        raise InvalidInput(
            f"{name!r} cannot be the name of a {what}: expected 1 to {_MAX_NAME_BYTES} bytes"
            " without slashes or control characters"
        )


def check_stored_name(name: object, *, path: str) -> str:
    """A file name that stands in metadata; ``path`` is the file that holds it.

    Raises CorruptFile for a path.
    """
    if not isinstance(name, str) or not name or name in (".", "..") or _UNSAFE_NAME.search(name):
        raise CorruptFile(f"{path}: {name!r} is not a file name")
    return name


def partition_path(
    types: Sequence[DataType], names: Sequence[str], values: Sequence[object], options: TableOptions
) -> str:
    """The directories of a partition, ``name=value/…``, "" for an unpartitioned table.

    Values as ``codec.binary_row.deserialize_row`` gives them. Raises InvalidRows for a value that no
    directory can carry.
    """
    return "/".join(
        f"{_escaped(name)}={_escaped(_value_text(data_type, name, value, options))}"
        for data_type, name, value in zip(types, names, values, strict=True)
    )


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"%{ord(match.group()):02X}", text)


def _value_text(data_type: DataType, name: str, value: object, options: TableOptions) -> str:
    text = "" if value is None else _plain_text(data_type, value, options.partition_legacy_name)
    if all(character.isspace() and character not in _NOT_JAVA_WHITESPACE for character in text):
        return options.partition_default_name
    if "\0" in text:
        raise InvalidRows(f"partition column {name!r}: the value {text!r} holds a NUL, which no directory can carry")
    return text


def _plain_text(data_type: DataType, value: object, legacy: bool) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return _timestamp_text(_nanos(value), data_type, legacy)
        case int() if data_type.root in (TypeRoot.TIMESTAMP, TypeRoot.TIMESTAMP_LTZ):
            return _timestamp_text(value, data_type, legacy)
        case date():
            return str((value - date(1970, 1, 1)).days) if legacy else value.isoformat()
        case time():
            return _time_text(value, data_type.precision or 0, legacy)
        case Decimal():
            return f"{value:f}"
        case bytes():
            raise InvalidRows("a BINARY column cannot be a partition column")
        case _:
            return str(value)


def _nanos(value: datetime) -> int:
    epoch = datetime(1970, 1, 1, tzinfo=value.tzinfo)
    delta = value - epoch
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000


def _timestamp_text(nanos: int, data_type: DataType, legacy: bool) -> str:
    seconds, fraction = divmod(nanos, _NANOS_PER_SECOND)
    days, second_of_day = divmod(seconds, 86_400)
    try:
        day = date.fromordinal(date(1970, 1, 1).toordinal() + days)
    except (ValueError, OverflowError) as cause:
        raise InvalidRows(f"a partition timestamp lies outside the years 1 to 9999: {cause}") from cause
    hour, minute, second = second_of_day // 3600, second_of_day // 60 % 60, second_of_day % 60
    if not legacy:
        if data_type.root is TypeRoot.TIMESTAMP_LTZ:
            raise Unsupported("a TIMESTAMP_LTZ partition column needs 'partition.legacy-name' = 'true'")
        digits = _without_zeros(f"{fraction:09d}", data_type.precision or 0)
        return f"{day.isoformat()} {hour:02d}:{minute:02d}:{second:02d}" + (f".{digits}" if digits else "")
    return f"{day.isoformat()}T{_local_time_text(hour, minute, second, fraction)}"


def _local_time_text(hour: int, minute: int, second: int, fraction: int) -> str:
    """The text of java.time.LocalTime: zero seconds are left out, the fraction has 3, 6 or 9 digits."""
    text = f"{hour:02d}:{minute:02d}"
    if second or fraction:
        text += f":{second:02d}"
    if fraction:
        digits = f"{fraction:09d}"
        text += "." + (digits[:3] if digits.endswith("000000") else digits[:6] if digits.endswith("000") else digits)
    return text


def _without_zeros(digits: str, least: int) -> str:
    kept = digits.rstrip("0")
    return kept if len(kept) >= least else digits[:least]


def _time_text(value: time, precision: int, legacy: bool) -> str:
    millis = ((value.hour * 60 + value.minute) * 60 + value.second) * 1000 + value.microsecond // 1000
    if legacy:
        return str(millis)
    digits = _without_zeros(f"{millis % 1000:03d}"[:precision], 1)
    return value.replace(microsecond=0).isoformat() + (f".{digits}" if precision else "")
