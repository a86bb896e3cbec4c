"""A worker process of a bucket shuffle: ``python -m storage_engine.lookup.shuffle_worker`` with the number of a socket.

It ends when the other side of the socket closes, however that comes about.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from polars.exceptions import PolarsError

from storage_engine.errors import StorageEngineError
from storage_engine.lookup.full_cache import FullCache
from storage_engine.lookup.shuffle_workers import Answer, Opening, Question


def main(connection: Connection) -> None:
    """Hold what the first message says, and answer the questions that follow."""
    opening: Opening = connection.recv()
    buckets = opening.share.buckets(opening.table.schema.table_options.bucket)
    cache = FullCache(opening.table, on=opening.on, columns=opening.columns, bounds=opening.bounds, buckets=buckets)
    while True:
        question: Question = connection.recv()
        try:
            rows, cached = cache.find(question.keys, question.snapshot)
        except (StorageEngineError, PolarsError) as error:
            connection.send(error)
            continue
        connection.send(
            Answer(rows=rows, cached=cached, held_rows=cache.rows, held_bytes=cache.nbytes, on_disk=cache.on_disk)
        )


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is interrupted, and closes the socket
    try:
        main(Connection(int(sys.argv[1])))
    except (EOFError, OSError):
        sys.exit(0)
