"""``lakehouse``: look into a warehouse, run SQL, look after tables, run the demo.

Errors are one line on stderr: exit code 1 for what went wrong, 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from lakehouse_cli.lazy import engine, output

if TYPE_CHECKING:
    from storage_engine import Catalog

_WAREHOUSE = click.option(
    "--warehouse",
    "-w",
    envvar="LAKEHOUSE_WAREHOUSE",
    default="warehouse",
    show_default=True,
    show_envvar=True,
    help="URL or path of the warehouse.",
)
_FORMAT = click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How rows are printed.",
)
_BRANCH = click.option("--branch", default=None, help="Read a branch instead of main.")


class LakehouseGroup(click.Group):
    """Turns the engine's errors into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except click.ClickException:
            raise
        except Exception as error:  # noqa: BLE001 - the last door: only the engine's own errors are let through
            if not engine().is_engine_error(error):
                raise
            message = " ".join(str(error).split())
            click.echo(f"lakehouse: {message}", err=True)
            ctx.exit(1)


@click.group(cls=LakehouseGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="streaming-lakehouse")
def main() -> None:
    """A streaming lakehouse on Apache Paimon tables."""


def _table_command(*, formatted: bool = False) -> Callable[[Callable[..., None]], click.Command]:
    """A command on one table ``db.t``."""

    def decorate(function: Callable[..., None]) -> click.Command:
        decorated = click.argument("table", metavar="DB.TABLE")(_WAREHOUSE(function))
        return main.command()(_FORMAT(decorated) if formatted else decorated)

    return decorate


def _catalog(warehouse: str) -> Catalog:
    return engine().catalog(warehouse)


@main.command()
@click.argument("database", required=False)
@_WAREHOUSE
@_FORMAT
def tables(database: str | None, warehouse: str, output_format: str) -> None:
    """List tables with their newest snapshot and size."""
    output().show(engine().tables_frame(_catalog(warehouse), database), output_format=output_format)


@_table_command(formatted=True)
@click.option("--limit", default=20, show_default=True, help="Newest snapshots to show; 0 for all.")
def snapshots(table: str, warehouse: str, output_format: str, limit: int) -> None:
    """List a table's snapshots, newest last."""
    frame = _catalog(warehouse).table(table).snapshots()
    output().show(frame.tail(limit) if limit else frame, output_format=output_format)


@_table_command(formatted=True)
@click.option("--columns", help="Columns to print, separated by commas.")
@click.option("--where", help="SQL condition, such as \"v_date = '2024-01-01' AND amount > 10\".")
@click.option("--limit", default=100, show_default=True, help="Rows to print; 0 for all.")
@click.option("--snapshot", type=int, help="Read as of a snapshot id.")
@click.option("--tag", help="Read as of a tag.")
@click.option("--timestamp", type=int, help="Read as of epoch milliseconds.")
@_BRANCH
def scan(table: str, warehouse: str, output_format: str, **choices: Any) -> None:
    """Print rows."""
    frame = engine().scan(_catalog(warehouse), table, **choices)
    output().show(frame, output_format=output_format)


@_table_command(formatted=True)
@click.option("--after", required=True, help="Snapshot id or tag: changes after it.")
@click.option("--until", help="Snapshot id or tag: changes up to it. Default: the newest.")
@click.option("--mode", type=click.Choice(["auto", "changelog", "delta", "diff"]), default="auto", show_default=True)
@click.option("--limit", default=100, show_default=True, help="Rows to print; 0 for all.")
def changes(table: str, warehouse: str, output_format: str, **choices: Any) -> None:
    """Print what happened between two snapshots, with row kinds."""
    frame = engine().changes(_catalog(warehouse), table, **choices)
    output().show(frame, output_format=output_format)


@_table_command(formatted=True)
def describe(table: str, warehouse: str, output_format: str) -> None:
    """Print columns, keys and types."""
    output().show(engine().describe_frame(_catalog(warehouse).table(table)), output_format=output_format)


@_table_command(formatted=True)
def files(table: str, warehouse: str, output_format: str) -> None:
    """List the live data files."""
    output().show(_catalog(warehouse).table(table).files(), output_format=output_format)


@_table_command(formatted=True)
def partitions(table: str, warehouse: str, output_format: str) -> None:
    """List partitions with their sizes."""
    output().show(_catalog(warehouse).table(table).partitions(), output_format=output_format)


@_table_command(formatted=True)
def options(table: str, warehouse: str, output_format: str) -> None:
    """List the options that are set."""
    output().show(_catalog(warehouse).table(table).options(), output_format=output_format)


@_table_command(formatted=True)
def tags(table: str, warehouse: str, output_format: str) -> None:
    """List tags."""
    output().show(_catalog(warehouse).table(table).tags(), output_format=output_format)


@_table_command(formatted=True)
def branches(table: str, warehouse: str, output_format: str) -> None:
    """List branches."""
    output().show(_catalog(warehouse).table(table).branches(), output_format=output_format)


@_table_command()
@click.option("--full", is_flag=True, help="Rewrite everything into one run at the top level.")
def compact(table: str, warehouse: str, full: bool) -> None:
    """Compact a table where its shape asks for it."""
    snapshot = _catalog(warehouse).table(table).compact(full=full)
    click.echo("nothing to compact" if snapshot is None else f"snapshot {snapshot.id}")


@_table_command()
@click.argument("name")
@click.option("--snapshot", type=int, help="Snapshot id; default: the newest.")
def create_tag(table: str, warehouse: str, name: str, snapshot: int | None) -> None:
    """Tag a snapshot, which keeps it readable."""
    _catalog(warehouse).table(table).create_tag(name, snapshot)
    click.echo(f"tag {name}")


@_table_command()
@click.option("--retain-max", type=int, help="Keep at most so many snapshots.")
@click.option("--retain-min", type=int, help="Keep at least so many snapshots.")
def expire(table: str, warehouse: str, retain_max: int | None, retain_min: int | None) -> None:
    """Expire old snapshots by the table's options."""
    count = _catalog(warehouse).table(table).expire_snapshots(retain_max=retain_max, retain_min=retain_min)
    click.echo(f"{count} snapshots expired")


@_table_command()
@click.option("--dry-run", is_flag=True, help="Only list them.")
def orphans(table: str, warehouse: str, dry_run: bool) -> None:
    """Remove files that nothing refers to and that are older than a day."""
    for path in _catalog(warehouse).table(table).remove_orphan_files(dry_run=dry_run):
        click.echo(path)


@main.command()
@click.argument("statement", required=False)
@click.option("--file", "path", type=click.Path(exists=True, dir_okay=False), help="Run the statements of a file.")
@_WAREHOUSE
@_FORMAT
def sql(statement: str | None, path: str | None, warehouse: str, output_format: str) -> None:
    """Run Flink/Paimon SQL: DDL, CALL, INSERT, SELECT."""
    if (statement is None) == (path is None):
        raise click.UsageError("give a statement or --file")
    for frame in engine().run_sql(_catalog(warehouse), statement, path):
        output().show(frame, output_format=output_format)


@main.command()
@click.option("--events", default=200_000, show_default=True, help="Change events in the stream.")
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same stream.")
@click.option("--source", type=click.Choice(["files", "mariadb"]), default="files", show_default=True)
@click.option("--landing", default="landing", show_default=True, help="Folder where change events land.")
@_WAREHOUSE
def demo(events: int, seed: int, source: str, landing: str, warehouse: str) -> None:
    """Run the main job end to end on an embedded stream, and check its figures."""
    sys.exit(engine().run_demo(events=events, seed=seed, source=source, landing=landing, warehouse=warehouse))


if __name__ == "__main__":
    main()
