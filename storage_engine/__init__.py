"""A primary-key table engine on Polars that reads and writes Apache Paimon's table format."""

from storage_engine.catalog import Catalog
from storage_engine.codec.commit_message import decode_commit_message, encode_commit_message
from storage_engine.lookup import LookupTable, lookup_join
from storage_engine.spec.manifest import CommitMessage
from storage_engine.spec.snapshot import Snapshot
from storage_engine.table import Table

__all__ = [
    "Catalog",
    "CommitMessage",
    "LookupTable",
    "Snapshot",
    "Table",
    "decode_commit_message",
    "encode_commit_message",
    "lookup_join",
]
