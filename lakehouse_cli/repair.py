"""``lakehouse repair``: parts of a table computed again from its source, while the stream goes on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from lakehouse_cli.choices import FORMAT, WAREHOUSE
from lakehouse_cli.lazy import lazy_module

if TYPE_CHECKING:
    from lakehouse_cli import output, repair_actions
else:
    output = lazy_module("lakehouse_cli.output")
    repair_actions = lazy_module("lakehouse_cli.repair_actions")

SPRINT = "lakehouse_assets.sprint.assets:SPRINT"


@click.command()
@click.argument("table", metavar="DB.TABLE")
@click.option("--values", help="Parts to repair: 2024-01-29..2024-01-31, or values separated by commas. Default: all.")
@click.option("--audited", is_flag=True, help="Write to a branch, run the table's checks there, publish if they pass.")
@click.option(
    "--project", default=SPRINT, show_default=True, metavar="MODULE:NAME", help="The Project that declares it."
)
@click.option("--sql", "folder", type=click.Path(exists=True), help="The folder of SQL that declares it.")
@WAREHOUSE
@FORMAT
def repair(table: str, warehouse: str, output_format: Any, **choices: Any) -> None:
    """Recompute parts of a table from its source, in one commit; the stream may go on.

    With --audited the exit code is 1 if a check failed: main is as it was then.
    """
    done = repair_actions.repaired(warehouse, table, **choices)
    output.show(done.summary, output_format=output_format)
    if output_format == "table":
        for frame in (done.checks, done.difference):
            if not frame.is_empty():
                output.show(frame, output_format=output_format)
    if done.failed:
        click.echo(f"lakehouse: {table}: {done.failed}", err=True)
        sys.exit(1)
