"""Sink assets: ``sink/<kind>/<layer>/<table>`` hands a table's changes on to a database or to files, exactly once.

What was delivered is remembered at the place itself, so a run may be retried, repeated, launched twice or killed.
"""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from lakehouse_assets.automation import INTERVAL_S, RUN_TAGS, STREAM_TAG, hindrance
from lakehouse_assets.metadata import asset_key
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.sinks import Delivery, Sink
from lakehouse_assets.sinks.declaration import DeliveryResult
from lakehouse_assets.sources.errors import SourceUnavailable
from lakehouse_assets.stream_assets import OWNERS
from storage_engine.errors import NotFound

GROUP: Final = "sink"


class SinkConfig(dg.Config):
    """``max_deliveries``: of one run at most."""

    max_deliveries: int = 1_000


def sink_key(sink: Sink) -> dg.AssetKey:
    """The key of a sink's asset."""
    named = [sink.name] if sink.name else [sink.to.kind]
    return dg.AssetKey(["sink", *named, *sink.table.split(".")])


def sink_asset(sink: Sink) -> dg.AssetsDefinition:
    """The asset that hands a table on: each run brings what is there."""
    key = sink_key(sink)

    @dg.asset(
        key=key,
        deps=[asset_key(sink.table)],
        group_name=GROUP,
        kinds={sink.to.kind, "polars"},
        owners=OWNERS,
        pool=sink.consumer,
        output_required=False,
        description=(
            f"Hands `{sink.table}` on to {sink.to.place}: all of it at first, then its changes, each once. The place remembers"
            " which snapshot it has, in the same transaction as the rows."
        ),
        metadata={"dagster/uri": sink.to.place, "table": sink.table},
    )
    def delivered(
        context: dg.AssetExecutionContext, config: SinkConfig, lakehouse: LakehouseResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        delivery = Delivery(lakehouse.catalog(), sink)
        last: DeliveryResult | None = None
        for _ in range(config.max_deliveries):
            result = delivery.run()
            if result is None:
                break
            if last is not None:
                context.log_event(dg.AssetMaterialization(key, metadata=delivery_metadata(last)))
            last = result
        if last is not None:
            yield dg.MaterializeResult(asset_key=key, metadata=delivery_metadata(last))

    return delivered


def delivery_metadata(result: DeliveryResult) -> dict[str, Any]:
    """Numbers of a delivery, as its asset's page plots them."""
    rows = {f"rows_{done}": count for done, count in result.rows.items()}
    return {
        **rows,
        "snapshot": result.delivered.snapshot,
        "whole_table": result.whole,
        "lag_ms": result.lag_ms,
        "rows_behind": result.rows_behind,
        "duration_ms": result.duration_ms,
    }


def sink_sensor(sink: Sink) -> dg.SensorDefinition:
    """Asks for a run whenever the table has something that the place does not have."""
    key = sink_key(sink)

    @dg.sensor(
        name=f"{'_'.join(key.path)}".replace("-", "_").replace(".", "_"),
        asset_selection=[key],
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=INTERVAL_S,
        description=f"Runs {key.to_user_string()} when {sink.table} has changes that {sink.to.place} does not have.",
    )
    def behind(context: dg.SensorEvaluationContext, lakehouse: LakehouseResource) -> dg.RunRequest | dg.SkipReason:
        if (busy := hindrance(context.instance, sink.consumer)) is not None:
            return dg.SkipReason(busy)
        try:
            waits = Delivery(lakehouse.catalog(), sink).waits()
        except (SourceUnavailable, NotFound) as error:
            return dg.SkipReason(str(error))
        if not waits:
            return dg.SkipReason(f"{sink.to.place} has all of {sink.table}")
        return dg.RunRequest(asset_selection=[key], tags={STREAM_TAG: sink.consumer, **RUN_TAGS})

    return behind
