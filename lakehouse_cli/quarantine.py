"""``lakehouse quarantine``: the lines that ingestion refused, and their replay after a fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lakehouse_cli.choices import FORMAT, WAREHOUSE
from lakehouse_cli.lazy import lazy_module

if TYPE_CHECKING:
    from lakehouse_cli import output, quarantine_actions
else:
    output = lazy_module("lakehouse_cli.output")
    quarantine_actions = lazy_module("lakehouse_cli.quarantine_actions")

_QUARANTINE = click.option(
    "--quarantine", "name", default="ods.quarantine", show_default=True, help="The table that holds the lines."
)
_TABLE = click.option("--table", metavar="DB.TABLE", help="Only lines that were meant for this table.")
_LONG = ["raw", "corrected"]


@click.group()
def quarantine() -> None:
    """Lines that are no event: look at them, correct them, replay them."""


@quarantine.command("list")
@_TABLE
@click.option("--status", type=click.Choice(["waiting", "replayed", "all"]), default="waiting", show_default=True)
@_QUARANTINE
@WAREHOUSE
@FORMAT
def list_lines(table: str | None, status: Any, name: str, warehouse: str, output_format: Any) -> None:
    """List lines with file, line and reason; JSON and CSV hold the text too."""
    frame = quarantine_actions.lines(warehouse, name, table=table, status=status)
    output.show(frame.drop(_LONG) if output_format == "table" else frame, output_format=output_format)


@quarantine.command()
@click.argument("file")
@click.argument("line", type=click.IntRange(min=0))
@_QUARANTINE
@WAREHOUSE
@FORMAT
def show(file: str, line: int, name: str, warehouse: str, output_format: Any) -> None:
    """Print all about one line, its text included."""
    output.show(quarantine_actions.one_line(warehouse, name, file, line), output_format=output_format)


@quarantine.command()
@click.argument("file", required=False)
@click.argument("line", type=click.IntRange(min=0), required=False)
@_TABLE
@click.option("--text", help="The right text of FILE's LINE.")
@click.option(
    "--corrections",
    type=click.Path(exists=True, dir_okay=False),
    help="JSON array of {source_file, line, raw}: what 'list --format json' prints, with 'raw' put right.",
)
@click.option(
    "--ingestions",
    metavar="MODULE:NAME",
    default="lakehouse_assets.sprint.ods:INGESTIONS",
    show_default=True,
    help="The declared ingestions, which say what a line of a table must be.",
)
@_QUARANTINE
@WAREHOUSE
@FORMAT
def replay(
    *,
    file: str | None,
    line: int | None,
    table: str | None,
    text: str | None,
    corrections: str | None,
    output_format: Any,
    **where: str,
) -> None:
    """Judge waiting lines anew; those that are events now go into their tables.

    Without a line or corrections, all that wait are judged as they stand: after a fix of the table. Exit code 1 if a
    line that was corrected is refused again.
    """
    if (text is None) != (file is None) or (file is None) != (line is None):
        raise click.UsageError("FILE, LINE and --text go together")
    if text is not None and corrections is not None:
        raise click.UsageError("give --text or --corrections")
    fixes = quarantine_actions.fixes(file, line, text, corrections)
    frame = quarantine_actions.replayed(corrections=fixes, table=table, **where)
    output.show(frame, output_format=output_format)
    refused = frame["reason"].drop_nulls().len()
    click.echo(f"{frame.height - refused} lines replayed, {refused} still refused", err=True)
    if refused and fixes is not None:
        raise click.exceptions.Exit(1)
