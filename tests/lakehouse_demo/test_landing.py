"""Files appear whole or not at all, and a landing that was cut off goes on where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import CONFIG_FILE, land, write_landing

CONFIG = StreamConfig(events=1_500, slices=6)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_steps_and_the_whole_landing_give_the_same_files(tmp_path: Path) -> None:
    summary = write_landing(CONFIG, tmp_path / "whole")
    landed = list(land(CONFIG, tmp_path / "steps"))
    assert [part.index for part in landed] == list(range(CONFIG.slices))
    assert content(tmp_path / "whole") == content(tmp_path / "steps")
    files = {name: data for name, data in content(tmp_path / "whole").items() if name != CONFIG_FILE}
    assert summary.files == len(files)
    assert summary.size_bytes == sum(map(len, files.values()))
    assert summary.lines == sum(data.count(b"\n") for data in files.values())
    assert summary.lines == CONFIG.events + summary.duplicates + CONFIG.malformed
    assert len(summary.malformed) == CONFIG.malformed


def test_each_step_lands_one_slice(tmp_path: Path) -> None:
    steps = land(CONFIG, tmp_path)
    part = next(steps)
    assert content(tmp_path).keys() == {f"{file.table}/{file.name}" for file in part.files} | {CONFIG_FILE}
    second = next(steps)
    assert (second.index, len(content(tmp_path))) == (1, len(part.files) + len(second.files) + 1)


def test_a_new_writer_goes_on_with_the_next_slice(tmp_path: Path) -> None:
    write_landing(CONFIG, tmp_path / "whole")
    for index in range(CONFIG.slices):
        assert next(land(CONFIG, tmp_path / "steps")).index == index
    assert list(land(CONFIG, tmp_path / "steps")) == []
    assert content(tmp_path / "steps") == content(tmp_path / "whole")


def test_a_slice_of_which_files_are_missing_is_completed(tmp_path: Path) -> None:
    write_landing(CONFIG, tmp_path)
    whole = content(tmp_path)
    (tmp_path / "member_order" / "000006.jsonl").unlink()
    (tmp_path / "member_order" / ".000006.jsonl.tmp").write_bytes(b"half a fi")
    assert [part.index for part in land(CONFIG, tmp_path)] == [CONFIG.slices - 1]
    assert content(tmp_path) == whole


def test_a_killed_writer_leaves_only_whole_files(tmp_path: Path) -> None:
    config = "StreamConfig(events=20_000, slices=200)"
    program = (
        "from lakehouse_demo.events import StreamConfig\nfrom lakehouse_demo.landing import land\n"
        f"for part in land({config}, {str(tmp_path / 'killed')!r}): print(part.index, flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(20):
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    whole = StreamConfig(events=20_000, slices=200)
    write_landing(whole, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    left = {name: data for name, data in content(tmp_path / "killed").items() if not name.endswith(".tmp")}
    assert 20 < len(left) < len(expected)
    assert left.items() <= expected.items()
    write_landing(whole, tmp_path / "killed")
    after = {name: data for name, data in content(tmp_path / "killed").items() if not name.endswith(".tmp")}
    assert after == expected


def test_a_folder_of_another_stream_is_refused(tmp_path: Path) -> None:
    write_landing(CONFIG, tmp_path)
    whole = content(tmp_path)
    for write in (
        lambda config: list(land(config, tmp_path)),
        lambda config: write_landing(config, tmp_path),
    ):
        with pytest.raises(ValueError, match="another stream"):
            write(StreamConfig(events=1_501, slices=6))
    assert content(tmp_path) == whole
