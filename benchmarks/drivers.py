"""One Python engine in a process of its own: ``python -m benchmarks.drivers ENGINE STEPS`` prints its figures as JSON.

Runs under the peers' environments too, so it imports nothing but the engine that it drives. Steps are JSON:
``[["write", [file, …]], ["read", times]]``, each done by the method of that name, which gives seconds.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa


class Driver:
    """What every engine can do: commit Arrow tables, and read all merged rows as Arrow."""

    def __init__(self, warehouse: str) -> None:
        self.warehouse = warehouse
        self.rows = 0
        self.before_mb = 0.0

    def upsert(self, rows: pa.Table) -> None:
        """Arrow table to committed snapshot."""
        raise NotImplementedError

    def scan(self) -> pa.Table:
        """All rows, merged, as Arrow."""
        raise NotImplementedError

    def write(self, paths: list[str]) -> list[float]:
        """Seconds of each commit; the rows are in memory before."""
        tables = [read_arrow(path) for path in paths]
        return [seconds(lambda table=table: self.upsert(table)) for table in tables]

    def read(self, times: int) -> list[float]:
        """Seconds of each read of the whole table."""
        taken = []
        for _ in range(times):
            started = time.perf_counter()
            found = self.scan()
            taken.append(time.perf_counter() - started)
            self.rows = found.num_rows
        return taken


class Ours(Driver):
    def __init__(self, warehouse: str) -> None:
        from storage_engine import Catalog  # noqa: PLC0415 - one engine a process

        super().__init__(warehouse)
        self._table = Catalog(warehouse).table("db.t")

    def upsert(self, rows: pa.Table) -> None:
        self._table.write(rows)

    def scan(self) -> pa.Table:
        return self._table.scan().collect().to_arrow()

    def compact(self) -> list[float]:
        """Seconds of a full compaction; ``before_mb``: the memory of the process until then."""
        self.before_mb = _status_mb("VmRSS")
        return [seconds(lambda: self._table.compact(full=True))]

    def frames(self, times: int, columns: list[str] | None, below: int | None) -> list[float]:
        """Seconds of reads as a Polars frame: ``columns`` of the rows whose ``quantity`` is below a number."""
        return self._frames(times, columns, below, self._table.scan)

    def bare(self, times: int, columns: list[str] | None, below: int | None) -> list[float]:
        """The same of the files themselves, by ``polars.scan_parquet``."""
        import polars as pl  # noqa: PLC0415 - one engine a process

        files = self._table.files()["file_path"].to_list()
        names = self._table.schema.column_names
        return self._frames(times, columns, below, lambda: pl.scan_parquet(files).select(names))

    def aggregate(self, times: int) -> list[float]:
        """Seconds of a sum over all rows by the streaming engine."""
        import polars as pl  # noqa: PLC0415 - one engine a process

        query = pl.col("amount").sum(), pl.col("score").sum(), pl.len()
        return [seconds(lambda: self._table.scan().select(query).collect(engine="streaming")) for _ in range(times)]

    def _frames(self, times: int, columns: list[str] | None, below: int | None, scan: Callable[[], Any]) -> list[float]:
        import polars as pl  # noqa: PLC0415 - one engine a process

        def once() -> None:
            lazy = scan() if below is None else scan().filter(pl.col("quantity") < below)
            self.rows = (lazy if columns is None else lazy.select(columns)).collect().height

        return [seconds(once) for _ in range(times)]


class PypaimonRust(Driver):
    def __init__(self, warehouse: str) -> None:
        from pypaimon_rust.datafusion import PaimonCatalog  # noqa: PLC0415 - one engine a process

        super().__init__(warehouse)
        self._table = PaimonCatalog({"warehouse": warehouse}).get_table("db.t")

    def upsert(self, rows: pa.Table) -> None:
        builder = self._table.new_batch_write_builder()
        writer = builder.new_write()
        for batch in rows.to_batches():
            writer.write_arrow(batch)
        builder.new_commit().commit(writer.prepare_commit())

    def scan(self) -> pa.Table:
        builder = self._table.new_read_builder()
        plan = builder.new_scan().plan()
        return pa.Table.from_batches(list(builder.new_read().read_arrow(plan.splits())))


class Pypaimon(Driver):
    def __init__(self, warehouse: str) -> None:
        from pypaimon import CatalogFactory  # noqa: PLC0415 - one engine a process

        super().__init__(warehouse)
        self._table = CatalogFactory.create({"warehouse": warehouse}).get_table("db.t")

    def upsert(self, rows: pa.Table) -> None:
        builder = self._table.new_batch_write_builder()
        writer, commit = builder.new_write(), builder.new_commit()
        writer.write_arrow(rows)
        commit.commit(writer.prepare_commit())
        writer.close()
        commit.close()

    def scan(self) -> pa.Table:
        builder = self._table.new_read_builder()
        return builder.new_read().to_arrow(builder.new_scan().plan().splits())


ENGINES: dict[str, Callable[[str], Driver]] = {"ours": Ours, "pypaimon-rust": PypaimonRust, "pypaimon": Pypaimon}


def read_arrow(path: str) -> pa.Table:
    """The rows of an Arrow file, in memory."""
    with pa.OSFile(path, "rb") as file:
        return pa.ipc.open_file(file).read_all()


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_mb(pid: str | int = "self") -> float:
    """The most memory that a process has had, MiB; 0 where the system does not tell."""
    return _status_mb("VmHWM", pid)


def _status_mb(name: str, pid: str | int = "self") -> float:
    status = Path(f"/proc/{pid}/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else 0.0


def main(engine: str, warehouse: str, steps: list[list[Any]]) -> None:
    """Do the steps, one after the other, and print seconds, rows last read and peak memory."""
    driver = ENGINES[engine](warehouse)
    taken = [getattr(driver, name)(*arguments) for name, *arguments in steps]
    print(json.dumps({"seconds": taken, "rows": driver.rows, "peak_mb": peak_mb(), "before_mb": driver.before_mb}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
