"""How long the parts of a table live: options of snapshots, changelogs, tags, consumers and partitions.

Spec: "Configuration / CoreOptions" of Apache Paimon 1.3.1. Durations in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from storage_engine.errors import InvalidOption
from storage_engine.options import TableOptions, parse_bool, parse_duration_ms


class TagCreation(StrEnum):
    """When tags are made without being asked for."""

    NONE = "none"
    PROCESS_TIME = "process-time"  # by the time of commits
    WATERMARK = "watermark"  # by the watermark of commits
    BATCH = "batch"  # with every commit, one a day


class PartitionExpiration(StrEnum):
    """What the age of a partition is measured by."""

    VALUES_TIME = "values-time"  # the time that its values spell
    UPDATE_TIME = "update-time"  # when its newest file was written


_UTC = ZoneInfo("UTC")
_PERIODS_MS = {"daily": 86_400_000, "hourly": 3_600_000, "two-hours": 7_200_000}
_DAILY_FORMATS = {
    "with_dashes": "%Y-%m-%d",
    "without_dashes": "%Y%m%d",
    "without_dashes_and_spaces": "%Y%m%d",
}
_HOURLY_FORMATS = {
    "with_dashes": "%Y-%m-%d %H",
    "without_dashes": "%Y%m%d %H",
    "without_dashes_and_spaces": "%Y%m%d%H",
}
_MINUTE_FORMAT = "%Y%m%d%H%M"


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleOptions:
    """The options that decide what upkeep does; None where Paimon has no default."""

    changelog_num_retained_min: int | None = None
    changelog_num_retained_max: int | None = None
    changelog_time_retained_ms: int | None = None
    clean_empty_directories: bool = False
    consumer_expiration_ms: int | None = None
    force_create_snapshot: bool = False
    ignore_empty_commit: bool | None = None
    tag_creation: TagCreation = TagCreation.NONE
    tag_period: str = "daily"
    tag_period_duration_ms: int | None = None
    tag_formatter: str = "with_dashes"
    tag_delay_ms: int = 0
    tag_num_retained_max: int | None = None
    tag_time_retained_ms: int | None = None
    tag_completion: bool = False
    tag_success_file: bool = False
    tag_batch_name: str | None = None
    process_time_zone: ZoneInfo | None = None
    watermark_time_zone: ZoneInfo = _UTC
    partition_expiration_ms: int | None = None
    partition_expiration: PartitionExpiration = PartitionExpiration.VALUES_TIME
    partition_check_interval_ms: int = 3_600_000
    partition_max_expired: int = 100
    partition_formatter: str | None = None
    partition_pattern: str | None = None

    @property
    def tag_period_ms(self) -> int:
        """From one automatic tag to the next."""
        return self.tag_period_duration_ms or _PERIODS_MS[self.tag_period]

    @property
    def tag_format(self) -> str:
        """How an automatic tag is named after its time, as for ``strftime``."""
        if self.tag_period_duration_ms is not None:
            return _MINUTE_FORMAT
        if self.tag_period == "two-hours":
            return _HOURLY_FORMATS["with_dashes"]
        return (_DAILY_FORMATS if self.tag_period == "daily" else _HOURLY_FORMATS)[self.tag_formatter]

    def changelog_outlives(self, options: TableOptions) -> bool:
        """Whether changelogs are kept when their snapshots expire."""
        return (
            (self.changelog_num_retained_max or 0) > options.snapshot_num_retained_max
            or (self.changelog_num_retained_min or 0) > options.snapshot_num_retained_min
            or (self.changelog_time_retained_ms or 0) > options.snapshot_time_retained_ms
        )

    @staticmethod
    def parse(options: Mapping[str, str]) -> LifecycleOptions:
        """Read the options of a schema. Raises InvalidOption, which names every option that is wrong."""
        return _parsed(tuple((key, options[key]) for key in LIFECYCLE_KEYS if key in options))


@cache
def _parsed(options: tuple[tuple[str, str], ...]) -> LifecycleOptions:
    values: dict[str, Any] = {}
    errors: list[str] = []
    for key, text in options:
        name, parse = LIFECYCLE_KEYS[key]
        try:
            values[name] = parse(text)
        except ValueError as cause:
            errors.append(f"option {key!r} is {text!r}: {cause}")
    if errors:
        raise InvalidOption("; ".join(errors))
    found = LifecycleOptions(**values)
    if found.tag_delay_ms >= found.tag_period_ms:
        raise InvalidOption(f"option 'tag.creation-delay' is {found.tag_delay_ms} ms: expected less than a period")
    least, most = found.changelog_num_retained_min, found.changelog_num_retained_max
    if least is not None and most is not None and least > most:
        raise InvalidOption("option 'changelog.num-retained.max' is smaller than 'changelog.num-retained.min'")
    return found


def _whole_number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise ValueError(f"expected a whole number, at least {least}")
        return int(text)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text.strip().lower()

    return parse


def _positive_duration(text: str) -> int:
    if (millis := parse_duration_ms(text)) < 1:
        raise ValueError("expected a duration above 0")
    return millis


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError) as cause:
        raise ValueError("expected a time zone, such as UTC or Asia/Shanghai") from cause


def _strategy(text: str) -> PartitionExpiration:
    return PartitionExpiration(_one_of(*PartitionExpiration)(text))


LIFECYCLE_KEYS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "changelog.num-retained.min": ("changelog_num_retained_min", _whole_number(1)),
    "changelog.num-retained.max": ("changelog_num_retained_max", _whole_number(1)),
    "changelog.time-retained": ("changelog_time_retained_ms", parse_duration_ms),
    "snapshot.clean-empty-directories": ("clean_empty_directories", parse_bool),
    "consumer.expiration-time": ("consumer_expiration_ms", parse_duration_ms),
    "commit.force-create-snapshot": ("force_create_snapshot", parse_bool),
    "snapshot.ignore-empty-commit": ("ignore_empty_commit", parse_bool),
    "tag.automatic-creation": ("tag_creation", lambda text: TagCreation(_one_of(*TagCreation)(text))),
    "tag.creation-period": ("tag_period", _one_of(*_PERIODS_MS)),
    "tag.creation-period-duration": ("tag_period_duration_ms", _positive_duration),
    "tag.period-formatter": ("tag_formatter", _one_of(*_DAILY_FORMATS)),
    "tag.creation-delay": ("tag_delay_ms", parse_duration_ms),
    "tag.num-retained-max": ("tag_num_retained_max", _whole_number(1)),
    "tag.default-time-retained": ("tag_time_retained_ms", parse_duration_ms),
    "tag.automatic-completion": ("tag_completion", parse_bool),
    "tag.create-success-file": ("tag_success_file", parse_bool),
    "tag.batch.customized-name": ("tag_batch_name", str),
    "sink.process-time-zone": ("process_time_zone", _zone),
    "sink.watermark-time-zone": ("watermark_time_zone", _zone),
    "partition.expiration-time": ("partition_expiration_ms", parse_duration_ms),
    "partition.expiration-strategy": ("partition_expiration", _strategy),
    "partition.expiration-check-interval": ("partition_check_interval_ms", parse_duration_ms),
    "partition.expiration-max-num": ("partition_max_expired", _whole_number(1)),
    "partition.timestamp-formatter": ("partition_formatter", str),
    "partition.timestamp-pattern": ("partition_pattern", str),
}
