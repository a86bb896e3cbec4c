"""A project: tables as SQL, what is ingested, the streams in between; and all of it as Dagster definitions.

::

    SHOP = Project(name="shop", ddl=DDL, ingestions=(ORDERS,), streams=(SALES,))
    defs = SHOP.definitions(LakehouseResource(warehouse="warehouse", ddl=DDL), LandingResource(folder="landing"))
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import dagster as dg

from lakehouse_assets.automation import ingest_sensor, sensors_of
from lakehouse_assets.batch_assets import batch_asset
from lakehouse_assets.batch_insert import BatchInsert
from lakehouse_assets.checks import Check, key_unique, quarantine_count, stream_lag
from lakehouse_assets.continuous import Continuous, continuous_asset, continuous_sensor
from lakehouse_assets.continuous_runs import check_apart, divided
from lakehouse_assets.ddl import defined_tables
from lakehouse_assets.ingest import QUARANTINE, Ingestion
from lakehouse_assets.io_manager import LakehouseIOManager
from lakehouse_assets.maintenance import UPKEEP, upkeep_asset, upkeep_schedule
from lakehouse_assets.metadata import definition_metadata
from lakehouse_assets.reporting import TableAsset
from lakehouse_assets.resources import ChangesResource, LakehouseResource
from lakehouse_assets.schedules import audit_schedule, repair_schedule, stream_schedule
from lakehouse_assets.sink_assets import sink_asset, sink_sensor
from lakehouse_assets.sinks import Sink
from lakehouse_assets.stream.declaration import Stream, by_target
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.modes import Mode
from lakehouse_assets.stream_assets import KINDS, OWNERS, ingest_asset, stream_asset, stream_key
from lakehouse_assets.table_assets import landed_table_asset, table_asset, table_check
from storage_engine.spec.schema import TableSchema

QUARANTINED_MAX: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Project:
    """What a team declares; everything else follows from it.

    ``ddl``: CREATE statements with IF NOT EXISTS, the quarantine's among them if something is ingested. ``batches``: what
    is written once, for repair. ``partitions``: column → partitions of the assets whose primary key holds it. ``checks``:
    table → name → check, beside those that every table has (``key_unique``; ``lag`` of a stream's target;
    ``quarantine`` of an ingested table). ``sinks``: where tables are served from.
    ``mode``: how streams run that say nothing themselves;
    ``ingest_mode``: how the ingestion does, None: the same. Streams of one target are one asset; each has its ``part``.
    ``apart``: name → targets that a continuous run of their own fills, on other cores or another machine; one run fills the
    rest. What is ingested stays together.
    """

    name: str
    ddl: str
    ingestions: Sequence[Ingestion] = ()
    streams: Sequence[Stream] = ()
    batches: Sequence[BatchInsert] = ()
    partitions: Mapping[str, dg.TimeWindowPartitionsDefinition] = field(default_factory=dict)
    checks: Mapping[str, Mapping[str, Check]] = field(default_factory=dict)
    sinks: Sequence[Sink] = ()
    freshness: Mapping[str, dg.FreshnessPolicy] = field(default_factory=dict)
    mode: Mode = "micro-batch"
    ingest_mode: Mode | None = None
    apart: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InvalidStream for streams of one target that go by one name, or run in different modes, and for ``apart``."""
        check_apart(self.apart, [each.target for each in self.ingestions], [each.target for each in self.streams])
        told = {target: iter(streams) for target, streams in by_target(self.streams).items()}
        object.__setattr__(self, "streams", tuple(next(told[stream.target]) for stream in self.streams))
        for target, streams in by_target(self.streams).items():
            names = [stream.name for stream in streams]
            if len(set(names)) < len(names):
                raise InvalidStream(f"{len(names)} streams fill {target}: give each a part of its own, Stream(part=…)")
            if len({stream.mode or self.mode for stream in streams}) > 1:
                raise InvalidStream(f"the streams that fill {target} are one asset: let them run in one mode")

    def tables(self) -> dict[str, TableAsset]:
        """Every table as Dagster sees it. Raises like ``defined_tables``."""
        return {name: self._table(name, schema) for name, schema in defined_tables(self.ddl).items()}

    def assets(self) -> list[dg.AssetsDefinition | dg.AssetSpec]:
        """Streams and tables; tables that nothing here fills stand for themselves. Raises InvalidStream for an unknown target."""
        tables = self.tables()
        filled = [*(each.target for each in self.ingestions), *(each.target for each in self.streams)]
        if unknown := [target for target in filled if target not in tables]:
            raise InvalidStream(
                f"project {self.name} fills {', '.join(unknown)}, but declares no such table; it declares {', '.join(tables)}"
            )
        continuous = self.continuous_runs()
        continuously = {target for each in continuous for target in each.targets}
        return [
            *(continuous_asset(each) for each in continuous),
            *(
                [ingest_asset(self.ingestions, tables)]
                if self.ingestions and not self.ingestions_of("continuous")
                else []
            ),
            *(
                stream_asset(streams, tables[target])
                for target, streams in by_target(self.streams).items()
                if target not in continuously
            ),
            *(landed_table_asset(ingestion, tables) for ingestion in self.ingestions),
            *(table_asset(streams, tables) for streams in by_target(self.streams).values()),
            *(batch_asset(batch, tables) for batch in self.batches),
            *(sink_asset(sink) for sink in self.sinks),
            *(_unfilled(table) for name, table in tables.items() if name not in filled),
        ]

    def asset_checks(self) -> list[dg.AssetChecksDefinition]:
        """The checks of all tables."""
        tables = self.tables().values()
        return [table_check(table, name, check) for table in tables for name, check in table.checks.items()]

    def definitions(self, lakehouse: LakehouseResource, changes: ChangesResource | None = None) -> dg.Definitions:
        """Assets, checks, sensors and schedules on a warehouse and a source of changes."""
        resources = {"lakehouse": lakehouse, "io_manager": LakehouseIOManager(lakehouse=lakehouse)}
        return dg.Definitions(
            assets=[*self.assets(), *(upkeep_asset(upkeep, list(self.tables())) for upkeep in UPKEEP)],
            asset_checks=self.asset_checks(),
            sensors=self._sensors(),
            schedules=[*(upkeep_schedule(upkeep) for upkeep in UPKEEP), *self._schedules()],
            resources=resources if changes is None else {**resources, "changes": changes},
            executor=dg.in_process_executor,
        )

    def streams_of(self, mode: Mode) -> list[Stream]:
        """The streams that run in a mode."""
        return [stream for stream in self.streams if (stream.mode or self.mode) == mode]

    def ingestions_of(self, mode: Mode) -> Sequence[Ingestion]:
        """The ingestions, if they run in a mode."""
        return self.ingestions if (self.ingest_mode or self.mode) == mode else ()

    def continuous_runs(self) -> list[Continuous]:
        """What each of the project's continuous runs moves."""
        ingestions, streams = self.ingestions_of("continuous"), self.streams_of("continuous")
        return divided(self.name, self.tables(), ingestions, streams, apart=self.apart)

    def _sensors(self) -> list[dg.SensorDefinition]:
        ingestions = self.ingestions_of("micro-batch")
        return [
            *(continuous_sensor(each) for each in self.continuous_runs()),
            *([ingest_sensor(self.name, ingestions)] if ingestions else []),
            *sensors_of(self.streams_of("micro-batch")),
            *(sink_sensor(sink) for sink in self.sinks),
        ]

    def _schedules(self) -> list[dg.ScheduleDefinition]:
        tables = self.tables()
        targets = [tables[stream.target] for stream in self.streams]
        days = next((table.partitions for table in targets if _is_daily(table)), None)
        daily = list(dict.fromkeys(table.name for table in targets if _is_daily(table)))
        repairs = [repair_schedule(daily, days)] if isinstance(days, dg.DailyPartitionsDefinition) else []
        landed = [stream_key(each.target) for each in self.ingestions_of("batch")]
        scheduled = landed + [stream_key(target) for target in by_target(self.streams_of("batch"))]
        batches = [stream_schedule(self.name, scheduled)] if scheduled else []
        return [*repairs, *batches, audit_schedule(list(tables))]

    def _table(self, name: str, schema: TableSchema) -> TableAsset:
        column = next((column for column in schema.primary_keys if column in self.partitions), None)
        return TableAsset(
            name=name,
            schema=schema,
            partitions=None if column is None else self.partitions[column],
            partition_column=column,
            checks={**self._checks_of(name), **self.checks.get(name, {})},
            freshness=self.freshness.get(name),
        )

    def _checks_of(self, name: str) -> dict[str, Check]:
        checks = {"key_unique": key_unique(name)}
        filling = by_target(self.streams).get(name)
        if filling is not None:
            checks["lag"] = stream_lag(filling)
        if name in {ingestion.target for ingestion in self.ingestions}:
            checks["quarantine"] = quarantine_count(QUARANTINE, name, rows_max=QUARANTINED_MAX)
        return checks


def _is_daily(table: TableAsset) -> bool:
    return isinstance(table.partitions, dg.DailyPartitionsDefinition)


def _unfilled(table: TableAsset) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=table.key,
        group_name=table.layer,
        kinds=KINDS,
        owners=OWNERS,
        description=f"{table.schema.comment or table.name}.",
        metadata=definition_metadata(table.name, table.schema, partition_column=None),
    )
