"""Compressed transactions of MySQL (``binlog_transaction_compression``): one event of the log that holds many."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import zstandard
from pymysql.protocol import MysqlPacket
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import BinLogEvent, NotImplementedEvent
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import TableMapEvent

from lakehouse_assets.sources.errors import SourceUnsupported

TRANSACTION_PAYLOAD: Final = 40
"""The number of the event's type."""

OK_BYTES: Final = 1
HEADER_BYTES: Final = 19
SIZE_OFFSET: Final = 9

END_OF_FIELDS: Final = 0
PAYLOAD_SIZE: Final = 1
COMPRESSION: Final = 2
ZSTD: Final = 0
NOT_COMPRESSED: Final = 255

_WIDE: Final = {252: 2, 253: 3, 254: 8}


class PayloadReader:
    """Makes a stream's compressed events the events that they hold, as the stream would tell them."""

    def __init__(
        self, stream: BinLogStreamReader, *, events: Sequence[type[BinLogEvent]], database: str, tables: Sequence[str]
    ) -> None:
        self._stream = stream
        self._events = frozenset(events)
        self._database = database
        self._tables = tables

    def events(self, event: NotImplementedEvent) -> Iterator[BinLogEvent]:
        """The events in one, in order; all end where it ends in the log. Raises SourceUnsupported."""
        for part in _parts(_payload(event.packet.packet.get_all_data()[OK_BYTES + HEADER_BYTES :])):
            packet = self._wrapped(part)
            found = packet.event
            if isinstance(found, TableMapEvent):
                self._stream.table_map[found.table_id] = found.get_table()
            elif found is not None and type(found) in self._events:
                packet.log_pos = event.packet.log_pos
                yield found

    def _wrapped(self, part: bytes) -> Any:
        """An event as the stream reads it; those in a payload have no checksums."""
        stream = self._stream
        return BinLogPacketWrapper(
            MysqlPacket(b"\0" + part, "utf-8"),
            stream.table_map,
            stream._ctl_connection,  # noqa: SLF001 - it has no name of its own
            stream.mysql_version,
            use_checksum=False,
            allowed_events=self._events | {TableMapEvent},
            only_tables=list(self._tables),
            ignored_tables=None,
            only_schemas=[self._database],
            ignored_schemas=None,
            freeze_schema=False,
            ignore_decode_errors=False,
            verify_checksum=False,
            optional_meta_data=True,
            enable_logging=False,
        )


def _payload(body: bytes) -> bytes:
    """What a compressed event holds, without compression. Its fields are a number, a length and a value each."""
    fields, place = {COMPRESSION: ZSTD}, 0
    while True:
        field, place = _integer(body, place)
        if field == END_OF_FIELDS:
            break
        length, place = _integer(body, place)
        fields[field] = _integer(body, place)[0]
        place += length
    payload = body[place : place + fields[PAYLOAD_SIZE]]
    if fields[COMPRESSION] == NOT_COMPRESSED:
        return payload
    if fields[COMPRESSION] != ZSTD:
        raise SourceUnsupported(
            f"the binary log has transactions of compression {fields[COMPRESSION]}; set binlog_transaction_compression=OFF"
        )
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(payload), read_across_frames=True) as reader:
        whole: bytes = reader.read()
        return whole


def _parts(payload: bytes) -> Iterator[bytes]:
    """The bytes of each event of a payload."""
    place = 0
    while place < len(payload):
        end = place + int.from_bytes(payload[place + SIZE_OFFSET : place + SIZE_OFFSET + 4], "little")
        yield payload[place:end]
        place = end


def _integer(data: bytes, place: int) -> tuple[int, int]:
    """A number of one byte, or of those that the first byte announces; and where the next one begins."""
    first = data[place]
    width = _WIDE.get(first, 0)
    if not width:
        return first, place + 1
    return int.from_bytes(data[place + 1 : place + 1 + width], "little"), place + 1 + width
