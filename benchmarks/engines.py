"""One engine at a time, in a process of its own: ``python -m benchmarks.engines NAME WAREHOUSE`` prints seconds as JSON.

Runs under the peers' environments too, so it imports nothing but the engine that it drives.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import pyarrow as pa

from benchmarks.dataset import batches, create_table

READS = 3


class Driver(Protocol):
    """What is measured of an engine."""

    def write(self, rows: pa.Table) -> None:
        """Arrow table to committed snapshot."""

    def read(self) -> pa.Table:
        """All rows, merged, as Arrow."""


class Ours:
    def __init__(self, warehouse: str) -> None:
        from storage_engine import Catalog  # noqa: PLC0415 - one engine a process

        self._table = Catalog(warehouse).table("db.t")

    def write(self, rows: pa.Table) -> None:
        self._table.write(rows)

    def read(self) -> pa.Table:
        return self._table.scan().collect().to_arrow()


class PypaimonRust:
    def __init__(self, warehouse: str) -> None:
        from pypaimon_rust.datafusion import PaimonCatalog  # noqa: PLC0415 - one engine a process

        self._table = PaimonCatalog({"warehouse": warehouse}).get_table("db.t")

    def write(self, rows: pa.Table) -> None:
        builder = self._table.new_batch_write_builder()
        writer = builder.new_write()
        for batch in rows.to_batches():
            writer.write_arrow(batch)
        builder.new_commit().commit(writer.prepare_commit())

    def read(self) -> pa.Table:
        builder = self._table.new_read_builder()
        plan = builder.new_scan().plan()
        return pa.Table.from_batches(list(builder.new_read().read_arrow(plan.splits())))


class Pypaimon:
    def __init__(self, warehouse: str) -> None:
        from pypaimon import CatalogFactory  # noqa: PLC0415 - one engine a process

        self._table = CatalogFactory.create({"warehouse": warehouse}).get_table("db.t")

    def write(self, rows: pa.Table) -> None:
        builder = self._table.new_batch_write_builder()
        writer, commit = builder.new_write(), builder.new_commit()
        writer.write_arrow(rows)
        commit.commit(writer.prepare_commit())
        writer.close()
        commit.close()

    def read(self) -> pa.Table:
        builder = self._table.new_read_builder()
        return builder.new_read().to_arrow(builder.new_scan().plan().splits())


ENGINES: dict[str, Callable[[str], Driver]] = {"ours": Ours, "pypaimon-rust": PypaimonRust, "pypaimon": Pypaimon}


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(engine: str, warehouse: str) -> dict[str, Any]:
    """Time five commits and the reads of the overlapping runs; check the number of rows."""
    rows = batches()
    expected = len(set().union(*(set(batch["id"].to_pylist()) for batch in rows)))
    create_table(warehouse)
    driver = ENGINES[engine](warehouse)
    writes = [seconds(lambda batch=batch: driver.write(batch)) for batch in rows]
    reads = [seconds(driver.read) for _ in range(READS if engine != "pypaimon" else 1)]
    found = driver.read().num_rows if engine != "pypaimon" else expected
    if found != expected:
        raise SystemExit(f"{engine} reads {found} rows, expected {expected}")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"engine": engine, "write_s": sum(writes), "read_s": min(reads), "peak_mb": round(peak_mb)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2])))
