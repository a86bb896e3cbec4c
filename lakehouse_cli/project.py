"""``lakehouse project``: a folder of Flink SQL, checked, or run once without Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lakehouse_cli.choices import FORMAT, WAREHOUSE
from lakehouse_cli.lazy import lazy_module

if TYPE_CHECKING:
    from lakehouse_cli import output, project_actions
else:
    output = lazy_module("lakehouse_cli.output")
    project_actions = lazy_module("lakehouse_cli.project_actions")

_FOLDER = click.argument("folder", type=click.Path(exists=True))
_DATABASE = click.option("--database", default="default", show_default=True, help="Database of names that have none.")


@click.group()
def project() -> None:
    """Tables, streams and repairs that a folder of *.sql files declares."""


@project.command()
@_FOLDER
@_DATABASE
@FORMAT
def check(folder: str, database: str, output_format: Any) -> None:
    """List what each INSERT becomes, or say what cannot be run incrementally, by file and line."""
    output.show(project_actions.declared(folder, database), output_format=output_format)


@project.command()
@_FOLDER
@_DATABASE
@WAREHOUSE
@FORMAT
def run(folder: str, database: str, warehouse: str, output_format: Any) -> None:
    """Create missing tables, and move every stream on until there is nothing to do."""
    output.show(project_actions.moved(folder, database, warehouse), output_format=output_format)
