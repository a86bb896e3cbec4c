"""Projects that an option of a command names: a Python object, or a folder of SQL."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from lakehouse_assets.flink_sql.project import load_project
from lakehouse_assets.project import Project
from lakehouse_assets.stream.declaration import Stream, by_target
from storage_engine.errors import InvalidInput


def project_of(place: str) -> Project:
    """The project at ``module:NAME``, the working directory's modules included. Raises InvalidInput."""
    module, colon, name = place.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError) as cause:
        raise InvalidInput(f"--project {place!r}: {cause}") from cause
    if not isinstance(found, Project):
        raise InvalidInput(f"--project {place!r}: expected module:NAME of a Project")
    return found


def sql_project(folder: str) -> Project:
    """The project of a folder of SQL. Raises SqlError and NotIncremental."""
    return load_project(folder).project()


def declared_streams(projects: Sequence[str], folders: Sequence[str]) -> dict[str, tuple[Stream, ...]] | None:
    """The streams of all these projects by target; None if none is named. Raises as the above do."""
    if not (projects or folders):
        return None
    found = [*(project_of(place) for place in projects), *(sql_project(folder) for folder in folders)]
    return by_target(stream for project in found for stream in project.streams)
