"""A primary-key table engine on Polars that reads and writes Apache Paimon's table format."""

from storage_engine.catalog import Catalog
from storage_engine.lookup import LookupTable, lookup_join
from storage_engine.spec.snapshot import Snapshot
from storage_engine.table import Table

__all__ = ["Catalog", "LookupTable", "Snapshot", "Table", "lookup_join"]
