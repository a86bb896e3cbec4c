"""Flink SQL as Dagster assets: tables, views and INSERTs become tables, streams and batch statements."""

from __future__ import annotations

from lakehouse_assets.batch_insert import BatchInsert
from lakehouse_assets.flink_sql.errors import NotIncremental
from lakehouse_assets.flink_sql.project import SqlProject, load_project, read_project

__all__ = ["BatchInsert", "NotIncremental", "SqlProject", "load_project", "read_project"]
