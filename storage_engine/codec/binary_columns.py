"""Many BinaryRows of one shape, decoded column by column: partitions and statistics of very many files.

Spec: as ``codec.binary_row``, which decodes what is not decoded by whole columns here, and says what is wrong with a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.spec.types import BINARY_ROOTS, STRING_ROOTS, DataType, TypeRoot

_ARITY_BYTES, _HEADER_BITS, _WORD = 4, 8, 8
_INLINE_LENGTH, _INLINE_MARK = 7, 0x80
_COMPACT_DECIMAL_PRECISION, _COMPACT_TIMESTAMP_PRECISION, _DATETIME_PRECISION = 18, 3, 6
_NANOS_PER_MILLI = 1_000_000
_MICROS_PER_MILLI = 1000
_LAST_DAY, _FIRST_DAY = 2_932_896, -719_162
_MILLIS_PER_DAY = 86_400_000

_Longs: TypeAlias = npt.NDArray[np.int64]
_Bytes: TypeAlias = npt.NDArray[np.uint8]


class BinaryRows:
    """Serialized rows of the same types."""

    def __init__(self, types: Sequence[DataType], rows: Sequence[bytes] | pl.Series) -> None:
        """``rows``: a column of them has no nulls."""
        self._types = tuple(types)
        self._rows = rows
        self._content, sizes = _of_column(rows) if isinstance(rows, pl.Series) else _of_values(rows)
        self._ends: _Longs = np.cumsum(sizes)
        self._bodies: _Longs = self._ends - sizes + _ARITY_BYTES
        header = (len(self._types) + _HEADER_BITS + 63) // 64 * _WORD
        self._slots: _Longs = self._bodies + header
        self._regular = self._all_have_shape(int(sizes.min(initial=1 << 30)), header)
        self._values: list[tuple[object, ...]] | None = None

    def column(self, index: int) -> pl.Series:
        """The values of one field in the dtype of its type. Raises CorruptFile, without a file's name."""
        found = self.exact_column(index)
        if found is None:
            values = [row[index] for row in self._by_row()]
            return pl.Series(values, dtype=self._types[index].to_polars(), strict=False)
        return found

    def exact_column(self, index: int) -> pl.Series | None:
        """The same, if all of its values are decoded at once and without loss; None otherwise."""
        decode = _decoder(self._types[index]) if self._regular else None
        found = None if decode is None else decode(self, index)
        if found is None:
            return None
        nulls = self._nulls(index)
        return pl.select(pl.when(pl.Series(~nulls)).then(found)).to_series() if nulls.any() else found

    def values(self) -> list[tuple[object, ...]]:
        """The rows as ``deserialize_row`` gives them. Raises CorruptFile, without a file's name."""
        if not self._types or any(_decoder(part) is None for part in self._types):
            return self._by_row()
        return list(zip(*(self.column(index).to_list() for index in range(len(self._types))), strict=True))

    def _by_row(self) -> list[tuple[object, ...]]:
        if self._values is None:
            self._values = [deserialize_row(self._types, row) for row in self._rows]
        return self._values

    def _all_have_shape(self, least_size: int, header: int) -> bool:
        if not len(self._rows) or least_size < _ARITY_BYTES + header + _WORD * len(self._types):
            return False
        arity = self._content[self._bodies[:, None] + np.arange(-_ARITY_BYTES, 0)].view(">i4")
        return bool((arity == len(self._types)).all())

    def _nulls(self, index: int) -> npt.NDArray[np.bool_]:
        bit = index + _HEADER_BITS
        return (self._content[self._bodies + bit // 8] >> bit % 8 & 1).astype(np.bool_)

    def slot(self, index: int) -> _Bytes:
        """The eight bytes of a field's slot, in zeros where it is null."""
        found: _Bytes = self._content[(self._slots + _WORD * index)[:, None] + np.arange(_WORD)]
        found[self._nulls(index)] = 0
        return found

    def parts(self, index: int) -> tuple[_Longs, _Longs]:
        """Length and offset that the slot of a field holds."""
        pair = self.slot(index).view("<u4").astype(np.int64)
        return pair[:, 0], pair[:, 1]

    def long_at(self, offsets: _Longs) -> _Longs | None:
        """Eight bytes at an offset of each row; None if one lies behind its row's end."""
        places = self._bodies + offsets
        if (places + _WORD > self._ends).any():
            return None
        found: _Longs = self._content[places[:, None] + np.arange(_WORD)].view("<i8").ravel()
        return found

    def strings(self, index: int) -> pa.Array | None:
        """Variable-length content of a field; None if a row is not right."""
        slot = self.slot(index)
        mark = slot[:, _INLINE_LENGTH].astype(np.int64)
        inline = (mark & _INLINE_MARK) > 0
        sizes, offsets = self.parts(index)
        sizes = np.where(inline, mark & ~_INLINE_MARK, sizes)
        places = np.where(inline, self._slots + _WORD * index, self._bodies + offsets)
        if (places + sizes > self._ends).any() or (sizes[inline] > _INLINE_LENGTH).any():
            return None
        bounds = np.concatenate(([0], np.cumsum(sizes)))
        taken = np.repeat(places - bounds[:-1], sizes) + np.arange(bounds[-1])
        buffers = [None, pa.py_buffer(bounds.astype(np.int64)), pa.py_buffer(self._content[taken])]
        return pa.Array.from_buffers(pa.large_binary(), len(sizes), buffers)


def _of_values(rows: Sequence[bytes]) -> tuple[_Bytes, _Longs]:
    """The content of rows, one after the other, and their sizes."""
    return np.frombuffer(b"".join(rows), np.uint8), np.fromiter(map(len, rows), np.int64, len(rows))


def _of_column(rows: pl.Series) -> tuple[_Bytes, _Longs]:
    array = rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, places, content = array.buffers()
    if content is None:
        return np.zeros(0, np.uint8), np.zeros(len(array), np.int64)
    offsets = np.frombuffer(places, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]], np.diff(offsets)


def _plain(physical: str, dtype: pl.DataType) -> Callable[[BinaryRows, int], pl.Series]:
    width = np.dtype(physical).itemsize

    def decode(rows: BinaryRows, index: int) -> pl.Series:
        return pl.Series(np.ascontiguousarray(rows.slot(index)[:, :width]).view(physical).ravel()).cast(dtype)

    return decode


def _within(physical: str, least: int, most: int, factor: int, dtype: pl.DataType) -> Callable[..., pl.Series | None]:
    width = np.dtype(physical).itemsize

    def decode(rows: BinaryRows, index: int) -> pl.Series | None:
        values = np.ascontiguousarray(rows.slot(index)[:, :width]).view(physical).ravel()
        if ((values < least) | (values > most)).any():
            return None
        return pl.Series(values.astype(np.int64) * factor).cast(pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype)

    return decode


def _booleans(rows: BinaryRows, index: int) -> pl.Series:
    return pl.Series(rows.slot(index)[:, 0] != 0)


def _texts(rows: BinaryRows, index: int) -> pl.Series | None:
    found = rows.strings(index)
    try:
        return None if found is None else pl.Series(found.cast(pa.large_string()))
    except pa.ArrowInvalid:
        return None


def _binaries(rows: BinaryRows, index: int) -> pl.Series | None:
    found = rows.strings(index)
    return None if found is None else pl.Series(found)


def _decimals(data_type: DataType) -> Callable[[BinaryRows, int], pl.Series | None]:
    precision, scale = data_type.precision or 10, data_type.scale or 0

    def decode(rows: BinaryRows, index: int) -> pl.Series | None:
        low = rows.slot(index).view("<i8").ravel()
        if ((low >= 10**precision) | (low <= -(10**precision))).any():
            return None
        words = np.stack([low, low >> 63], axis=1)
        return pl.Series(
            pa.Array.from_buffers(pa.decimal128(precision, scale), len(low), [None, pa.py_buffer(words.tobytes())])
        )

    return decode


def _timestamps(data_type: DataType) -> Callable[[BinaryRows, int], pl.Series | None]:
    precision = _DATETIME_PRECISION if data_type.precision is None else data_type.precision

    def compact(rows: BinaryRows, index: int) -> pl.Series:
        return pl.Series(rows.slot(index).view("<i8").ravel()).cast(data_type.to_polars())

    def with_micros(rows: BinaryRows, index: int) -> pl.Series | None:
        nanos, offsets = rows.parts(index)
        millis = rows.long_at(offsets)
        if millis is None or (nanos >= _NANOS_PER_MILLI).any():
            return None
        return pl.Series(millis * _MICROS_PER_MILLI + nanos // _MICROS_PER_MILLI).cast(data_type.to_polars())

    return compact if precision <= _COMPACT_TIMESTAMP_PRECISION else with_micros


_DECODERS: dict[TypeRoot, Callable[[BinaryRows, int], pl.Series | None]] = {
    TypeRoot.BOOLEAN: _booleans,
    TypeRoot.TINYINT: _plain("<i1", pl.Int8()),
    TypeRoot.SMALLINT: _plain("<i2", pl.Int16()),
    TypeRoot.INT: _plain("<i4", pl.Int32()),
    TypeRoot.BIGINT: _plain("<i8", pl.Int64()),
    TypeRoot.FLOAT: _plain("<f4", pl.Float32()),
    TypeRoot.DOUBLE: _plain("<f8", pl.Float64()),
    TypeRoot.DATE: _within("<i4", _FIRST_DAY, _LAST_DAY, 1, pl.Date()),
    TypeRoot.TIME: _within("<i4", 0, _MILLIS_PER_DAY - 1, _NANOS_PER_MILLI, pl.Time()),
    **dict.fromkeys(STRING_ROOTS, _texts),
    **dict.fromkeys(BINARY_ROOTS, _binaries),
}


def _decoder(data_type: DataType) -> Callable[[BinaryRows, int], pl.Series | None] | None:
    """What decodes a type by whole columns; None where ``deserialize_row`` gives what no column's values are."""
    precision = data_type.precision
    if data_type.root is TypeRoot.DECIMAL and (precision or 10) <= _COMPACT_DECIMAL_PRECISION:
        return _decimals(data_type)
    if data_type.root is TypeRoot.TIMESTAMP and (precision is None or precision <= _DATETIME_PRECISION):
        return _timestamps(data_type)
    return _DECODERS.get(data_type.root)
