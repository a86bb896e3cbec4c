"""A primary-key table engine on Polars that reads and writes Apache Paimon's table format.

What stands in ``__all__`` is loaded when it is first asked for (PEP 562): importing the package alone costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {
    "Catalog": "catalog",
    "CommitMessage": "spec.manifest",
    "LookupTable": "lookup",
    "Snapshot": "spec.snapshot",
    "Table": "table",
    "decode_commit_message": "codec.commit_message",
    "encode_commit_message": "codec.commit_message",
    "lookup_join": "lookup",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
