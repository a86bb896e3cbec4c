"""How the blocks of an Avro file are packed and unpacked; nothing is unpacked beyond a limit.

Spec: "Required Codecs" and "Optional Codecs" of Apache Avro.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO

import pyarrow as pa
import zstandard

from storage_engine.errors import CorruptFile, Unsupported

_CODEC_NAMES = {
    "zstd": "zstandard",
    "zstandard": "zstandard",
    "deflate": "deflate",
    "zlib": "deflate",
    "gzip": "deflate",
    "snappy": "snappy",
    "null": "null",
    "none": "null",
    "uncompressed": "null",
}
# What a damaged or hostile block may raise beside CorruptFile.
UNPACK_ERRORS: tuple[type[Exception], ...] = (zstandard.ZstdError, zlib.error, pa.ArrowInvalid, OSError)


def codec_of(compression: str) -> str:
    """Avro's name of a compression option's value. Raises Unsupported for one that Avro does not have."""
    try:
        return _CODEC_NAMES[compression.lower()]
    except KeyError as cause:
        raise Unsupported(
            f"compression {compression!r} does not exist in Avro; use zstd, deflate, snappy or null"
        ) from cause


def _too_large(limit: int) -> CorruptFile:
    return CorruptFile(f"a block unpacks to more than the {limit} bytes that are left of the limit")


def _pack_zstandard(content: bytes, level: int) -> bytes:
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True).compress(content)


def _unpack_zstandard(packed: bytes, limit: int) -> bytes:
    source = BytesIO(packed)
    with zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True) as reader:
        content = reader.read(limit + 1)
    if len(content) > limit:
        raise _too_large(limit)
    # A cut frame ends without an error: what was said to be in it is compared.
    said = zstandard.frame_content_size(packed)
    if len(content) < said:
        raise CorruptFile(f"a block unpacks to {len(content)} of the {said} bytes it says")
    return content


def _unpack_deflate(packed: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    content = stream.decompress(packed, limit + 1)
    if len(content) > limit:
        raise _too_large(limit)
    # Some writers leave a part of zlib's trailer behind the stream.
    if not stream.eof:
        raise CorruptFile("a deflated block is cut")
    return content


def _pack_deflate(content: bytes, _level: int) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(content) + stream.flush()


def _pack_snappy(content: bytes, _level: int) -> bytes:
    packed = pa.compress(content, codec="snappy", asbytes=True)
    return bytes(packed) + struct.pack(">I", zlib.crc32(content))


def _unpack_snappy(packed: bytes, limit: int) -> bytes:
    body, checksum = packed[:-4], packed[-4:]
    size = shift = 0
    for byte in body[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > limit:
        raise _too_large(limit)
    content = bytes(pa.decompress(body, decompressed_size=size, codec="snappy", asbytes=True))
    if struct.pack(">I", zlib.crc32(content)) != checksum:
        raise CorruptFile("the checksum of a block is wrong")
    return content


def _pack_null(content: bytes, _level: int) -> bytes:
    return content


def _unpack_null(packed: bytes, limit: int) -> bytes:
    if len(packed) > limit:
        raise _too_large(limit)
    return packed


# By codec: content and zstandard's level to packed bytes; packed bytes and a limit to content.
PACK: Mapping[str, Callable[[bytes, int], bytes]] = {
    "zstandard": _pack_zstandard,
    "deflate": _pack_deflate,
    "snappy": _pack_snappy,
    "null": _pack_null,
}
UNPACK: Mapping[str, Callable[[bytes, int], bytes]] = {
    "zstandard": _unpack_zstandard,
    "deflate": _unpack_deflate,
    "snappy": _unpack_snappy,
    "null": _unpack_null,
}
