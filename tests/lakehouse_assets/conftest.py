"""Fixtures of the assets' tests: warehouses in memory, with the project's tables or none."""

from __future__ import annotations

import uuid

import pytest

from lakehouse_assets.sprint.tables import create_tables
from storage_engine import Catalog


@pytest.fixture
def catalog() -> Catalog:
    """An empty warehouse of its own, in memory."""
    return Catalog(f"memory://{uuid.uuid4()}")


@pytest.fixture
def sprint_catalog(catalog: Catalog) -> Catalog:
    """A warehouse with the project's tables."""
    create_tables(catalog)
    return catalog
