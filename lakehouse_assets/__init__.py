"""The lakehouse as Dagster assets: layers, streams, sensors, repair and maintenance."""

from __future__ import annotations

import warnings

# Backfill policies are called beta by Dagster, once for each asset in each process.
warnings.filterwarnings("ignore", message=r".*is currently in (beta|preview)")
# Dagster itself calls what it deprecates when a resource holds another, as the IO manager does.
warnings.filterwarnings("ignore", message=r"InitResourceContext\.dagster_run is deprecated")
