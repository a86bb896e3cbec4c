"""Options that several commands have."""

from __future__ import annotations

import click

WAREHOUSE = click.option(
    "--warehouse",
    "-w",
    envvar="LAKEHOUSE_WAREHOUSE",
    default="warehouse",
    show_default=True,
    show_envvar=True,
    help="URL or path of the warehouse.",
)
FORMAT = click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How rows are printed.",
)
BRANCH = click.option("--branch", help="Work on a branch instead of main.")
LIMIT = click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="Rows to print; 0 for all."
)
LANDING = click.option("--landing", default="landing", show_default=True, help="Folder where change events land.")
EVENTS = click.option(
    "--events", type=click.IntRange(min=0), default=200_000, show_default=True, help="Change events in the stream."
)
SEED = click.option("--seed", default=7, show_default=True, help="The same seed gives the same stream.")
