"""A warehouse in memory that is alone there."""

from __future__ import annotations

import uuid

from fsspec.implementations.memory import MemoryFileSystem

from storage_engine import Catalog


def empty_warehouse() -> Catalog:
    """A catalog with the database ``db``. All else in memory goes: listings there look at everything that was ever written."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    return catalog
