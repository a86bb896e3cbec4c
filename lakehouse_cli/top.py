"""``lakehouse top``: streams, tables and quarantine of a warehouse, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lakehouse_cli.choices import FORMAT, WAREHOUSE
from lakehouse_cli.lazy import lazy_module

if TYPE_CHECKING:
    from lakehouse_cli import output, top_view
else:
    output = lazy_module("lakehouse_cli.output")
    top_view = lazy_module("lakehouse_cli.top_view")


@click.command()
@click.argument("database", required=False)
@click.option("--once", is_flag=True, help="Print what is now, and end; with --format json one row a table.")
@click.option("--every", "every_s", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds.")
@WAREHOUSE
@FORMAT
def top(database: str | None, warehouse: str, output_format: Any, once: bool, every_s: float) -> None:
    """Watch lag, rows per second, files and refused lines of all tables, until Ctrl-C."""
    if once and output_format != "table":
        output.show(top_view.facts(warehouse, database), output_format=output_format)
    elif once:
        top_view.show_once(warehouse, database)
    else:
        top_view.show_live(warehouse, database, every_s=every_s)
