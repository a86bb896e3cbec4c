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
@click.option("--project", "projects", multiple=True, metavar="MODULE:NAME", help="Count streams of this Project only.")
@click.option(
    "--sql", "folders", multiple=True, type=click.Path(exists=True), help="Count INSERTs of this folder only."
)
@WAREHOUSE
@FORMAT
def top(warehouse: str, output_format: Any, once: bool, every_s: float, **choices: Any) -> None:
    """Watch lag, rows per second, files and refused lines of all tables, until Ctrl-C.

    A stream is known by what it has committed. With --project or --sql, which may be given several times, those count that are
    declared there: ones that never ran too, and none that was removed.
    """
    watched = top_view.watched(warehouse, **choices)
    if once and output_format != "table":
        output.show(watched.facts(), output_format=output_format)
    elif once:
        watched.show_once()
    else:
        watched.show_live(every_s=every_s)
