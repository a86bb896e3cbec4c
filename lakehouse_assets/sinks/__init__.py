"""Sinks: tables handed on to databases and files, each change once. Nothing here needs Dagster."""

from __future__ import annotations

from lakehouse_assets.sinks.declaration import Delivered, Sink, SinkTarget
from lakehouse_assets.sinks.delivery import Delivery
from lakehouse_assets.sinks.mysql_sink import MySqlSink
from lakehouse_assets.sinks.parquet_sink import ParquetSink
from lakehouse_assets.sinks.postgres_sink import PostgresSink

__all__ = ["Delivered", "Delivery", "MySqlSink", "ParquetSink", "PostgresSink", "Sink", "SinkTarget"]
