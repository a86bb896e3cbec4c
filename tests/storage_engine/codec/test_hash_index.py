"""Hash index files against those of Paimon 1.3.1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from storage_engine.codec.hash_index import decode_hash_index, encode_hash_index
from storage_engine.errors import CorruptFile

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = [bytes.fromhex(file["hex"]) for file in json.loads((GOLDEN / "hash_index_files.json").read_text())]
HASH_OF_A = 943281246  # of the key 'a', a STRING


@pytest.mark.parametrize("data", FILES, ids=bytes.hex)
def test_files_of_paimon_are_read_and_written(data: bytes) -> None:
    hashes = decode_hash_index(data, path="x")
    assert hashes.dtype == np.int32
    assert len(hashes) == len(data) // 4
    assert encode_hash_index(hashes) == data


def test_a_known_key_is_in_its_bucket() -> None:
    assert HASH_OF_A in decode_hash_index(FILES[0], path="x")


def test_a_cut_file_is_seen() -> None:
    with pytest.raises(CorruptFile, match="11 bytes"):
        decode_hash_index(FILES[0][:-1], path="x")
