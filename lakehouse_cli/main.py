"""``lakehouse``: look into a warehouse, run SQL, look after tables, run the demo.

Errors are one line on stderr: exit code 1 for what went wrong, 2 for wrong usage. ``LAKEHOUSE_DEBUG=1`` shows tracebacks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import click

from lakehouse_cli.choices import BRANCH, EVENTS, FORMAT, LANDING, LIMIT, SEED, WAREHOUSE
from lakehouse_cli.lazy import lazy_module
from lakehouse_cli.project import project
from lakehouse_cli.quarantine import quarantine
from lakehouse_cli.repair import repair
from lakehouse_cli.top import top
from storage_engine.errors import told

if TYPE_CHECKING:
    from lakehouse_cli import actions, output
else:
    actions = lazy_module("lakehouse_cli.actions")
    output = lazy_module("lakehouse_cli.output")

_MANIFEST_LISTS = ["base_manifest_list", "delta_manifest_list", "changelog_manifest_list"]
_DEBUG = "LAKEHOUSE_DEBUG"


class LakehouseGroup(click.Group):
    """Turns errors into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:  # the last door: a user gets a line, not a traceback
            if os.environ.get(_DEBUG):
                raise
            click.echo(f"lakehouse: {_one_line(error)}", err=True)
            ctx.exit(1)


def _one_line(error: Exception) -> str:
    message = " ".join(told(error).split())
    if actions.is_engine_error(error):
        return message
    return f"unexpected {type(error).__name__}: {message} (set {_DEBUG}=1 to see where)"


@click.group(cls=LakehouseGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="streaming-lakehouse")
def main() -> None:
    """A streaming lakehouse on Apache Paimon tables."""


def _table_command(
    *, name: str | None = None, formatted: bool = False
) -> Callable[[Callable[..., None]], click.Command]:
    """A command on one table ``db.t`` or on a branch of it."""

    def decorate(function: Callable[..., None]) -> click.Command:
        decorated = click.argument("table", metavar="DB.TABLE")(WAREHOUSE(BRANCH(function)))
        return main.command(name)(FORMAT(decorated) if formatted else decorated)

    return decorate


def _show_some(frame: Any, limit: int, output_format: Any) -> None:
    """Print the first rows of a frame that holds one more than the limit, and say so if it does."""
    is_cut = bool(limit) and frame.height > limit
    output.show(frame.head(limit) if is_cut else frame, output_format=output_format)
    if is_cut:
        click.echo(f"the first {limit} rows; --limit 0 shows all", err=True)


@main.command()
@click.argument("database", required=False)
@WAREHOUSE
@FORMAT
def tables(database: str | None, warehouse: str, output_format: Any) -> None:
    """List tables with their newest snapshot and size."""
    frame = actions.tables_frame(actions.open_catalog(warehouse), database)
    output.show(frame, output_format=output_format)
    if frame.is_empty():
        click.echo(f"no tables in {database or warehouse}", err=True)


@_table_command(formatted=True)
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Newest snapshots to show; 0 for all."
)
def snapshots(table: str, warehouse: str, branch: str | None, output_format: Any, limit: int) -> None:
    """List a table's snapshots, newest last."""
    frame = actions.open_table(warehouse, table, branch).snapshots()
    frame = frame.tail(limit) if limit else frame
    output.show(frame.drop(_MANIFEST_LISTS) if output_format == "table" else frame, output_format=output_format)


@_table_command(formatted=True)
@click.option("--columns", help="Columns to print, separated by commas.")
@click.option("--where", help="SQL condition, such as \"v_date = '2024-01-01' AND amount > 10\".")
@LIMIT
@click.option("--snapshot", type=int, help="Read as of a snapshot id.")
@click.option("--tag", help="Read as of a tag.")
@click.option("--timestamp", help="Read as of a time ('2026-11-23 12:00:00', UTC) or epoch milliseconds.")
@click.option("--read-optimized", is_flag=True, help="Only what full compaction has merged: quick, perhaps old.")
def scan(table: str, warehouse: str, branch: str | None, output_format: Any, limit: int, **choices: Any) -> None:
    """Print rows."""
    opened = actions.open_table(warehouse, table, branch)
    _show_some(actions.scan(opened, limit=limit and limit + 1, **choices), limit, output_format)


@_table_command(formatted=True)
@click.option("--after", required=True, help="Snapshot id or tag: changes after it; 0 for all.")
@click.option("--until", help="Snapshot id or tag: changes up to it. Default: the newest.")
@click.option("--mode", type=click.Choice(["auto", "changelog", "delta", "diff"]), default="auto", show_default=True)
@LIMIT
def changes(table: str, warehouse: str, branch: str | None, output_format: Any, limit: int, **choices: Any) -> None:
    """Print what happened between two snapshots, with row kinds."""
    opened = actions.open_table(warehouse, table, branch)
    _show_some(actions.changes(opened, limit=limit and limit + 1, **choices), limit, output_format)


def _describe(table: str, warehouse: str, branch: str | None, output_format: Any) -> None:
    """Print columns, types and keys."""
    frame = actions.describe_frame(actions.open_table(warehouse, table, branch))
    output.show(frame, output_format=output_format)


_table_command(name="describe", formatted=True)(_describe)
_table_command(name="schema", formatted=True)(_describe)


def _listing(name: str, caption: str) -> None:
    """A command that prints one of a table's system tables: the method of ``Table`` has its name."""

    def show(table: str, warehouse: str, branch: str | None, output_format: Any) -> None:
        frame = getattr(actions.open_table(warehouse, table, branch), name)()
        output.show(frame, output_format=output_format)

    show.__doc__ = caption
    _table_command(name=name, formatted=True)(show)


for _name, _caption in {
    "files": "List the live data files.",
    "partitions": "List partitions with their sizes.",
    "options": "List the options that are set.",
    "schemas": "List the versions of the definition.",
    "tags": "List tags.",
    "branches": "List branches.",
    "consumers": "List named stream readers and how far they are.",
}.items():
    _listing(_name, _caption)


@_table_command()
@click.option("--full", is_flag=True, help="Rewrite everything into one run at the top level.")
@click.option(
    "--order-strategy",
    type=click.Choice(["order", "zorder", "hilbert"]),
    help="Sort all rows of a table without a primary key along such a curve.",
)
@click.option("--order-by", metavar="COLUMN,…", default="", help="The columns to sort by.")
def compact(
    table: str, warehouse: str, branch: str | None, full: bool, order_strategy: str | None, order_by: str
) -> None:
    """Compact a table where its shape asks for it."""
    opened = actions.open_table(warehouse, table, branch)
    click.echo(actions.compact(opened, full=full, order_strategy=order_strategy, order_by=order_by))


@_table_command(formatted=True)
def verify(table: str, warehouse: str, branch: str | None, output_format: Any) -> None:
    """Read every live file with its checksums; shows what is damaged, and fails if anything is."""
    damaged = actions.open_table(warehouse, table, branch).verify()
    if damaged.is_empty():
        click.echo("nothing is damaged")
        return
    output.show(damaged, output_format=output_format)
    raise SystemExit(1)


@_table_command()
@click.argument("name")
@click.option("--snapshot", type=int, help="Snapshot id; default: the newest.")
def create_tag(table: str, warehouse: str, branch: str | None, name: str, snapshot: int | None) -> None:
    """Tag a snapshot, which keeps it readable."""
    actions.open_table(warehouse, table, branch).create_tag(name, snapshot)
    click.echo(f"tag {name}")


@_table_command()
@click.option("--retain-max", type=click.IntRange(min=1), help="Keep at most so many snapshots.")
@click.option("--retain-min", type=click.IntRange(min=1), help="Keep at least so many snapshots.")
def expire(table: str, warehouse: str, branch: str | None, retain_max: int | None, retain_min: int | None) -> None:
    """Expire old snapshots by the table's options."""
    opened = actions.open_table(warehouse, table, branch)
    count = opened.expire_snapshots(retain_max=retain_max, retain_min=retain_min)
    click.echo(f"{count} snapshots expired")


@_table_command()
@click.option("--dry-run", is_flag=True, help="Only list them.")
def orphans(table: str, warehouse: str, branch: str | None, dry_run: bool) -> None:
    """Remove files that nothing refers to and that are older than a day."""
    for path in actions.open_table(warehouse, table, branch).remove_orphan_files(dry_run=dry_run):
        click.echo(path)


@main.command()
@click.argument("statement", required=False)
@click.option("--file", "script", type=click.File(encoding="utf-8"), help="Run the statements of a file; - for stdin.")
@WAREHOUSE
@FORMAT
def sql(statement: str | None, script: IO[str] | None, warehouse: str, output_format: Any) -> None:
    """Run Flink/Paimon SQL: DDL, CALL, INSERT, SELECT; several statements are separated by semicolons."""
    if (statement is None) == (script is None):
        raise click.UsageError("give a statement or --file")
    text = statement if script is None else script.read()
    for frame in actions.run_sql(actions.open_catalog(warehouse), text or ""):
        if frame is not None:
            output.show(frame, output_format=output_format)
        elif output_format == "table":
            click.echo("OK")


@main.command()
@EVENTS
@SEED
@click.option(
    "--source",
    type=click.Choice(["files", "kafka", "mariadb", "mysql", "postgres"]),
    default="files",
    show_default=True,
)
@LANDING
@WAREHOUSE
def demo(**choices: Any) -> None:
    """Run the main job end to end on an embedded stream, and check its figures."""
    sys.exit(actions.run_demo(**choices))


@main.command()
@EVENTS
@SEED
@LANDING
@WAREHOUSE
@click.option("--port", default=3000, show_default=True, help="Port of Dagster's webserver.")
@click.option("--every", "every_s", default=10.0, show_default=True, help="Seconds between slices that land; 0: none.")
def ui(**choices: Any) -> None:
    """Open Dagster's UI with the sensors on, while changes land."""
    sys.exit(actions.run_ui(**choices))


main.add_command(project)
main.add_command(quarantine)
main.add_command(repair)
main.add_command(top)

if __name__ == "__main__":
    main()
