"""Values on the terminal: nothing lost, nothing that steers it."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
import pytest

from lakehouse_cli.output import show

EVERYTHING = pl.DataFrame(
    {
        "s": pl.Series(["a", None], dtype=pl.String),
        "i": pl.Series([2**63 - 1, None], dtype=pl.Int64),
        "f": pl.Series([0.1, float("inf")], dtype=pl.Float64),
        "d": pl.Series([Decimal("12345678901234567890123456.0010"), None], dtype=pl.Decimal(38, 4)),
        "b": pl.Series([b"\x00\xff", None], dtype=pl.Binary),
        "o": pl.Series([True, None], dtype=pl.Boolean),
        "day": pl.Series([date(2024, 2, 29), None]),
        "clock": pl.Series([time(1, 2, 3, 4000), None]),
        "ms": pl.Series([datetime(2024, 1, 1, 1, 2, 3, 4000), None], dtype=pl.Datetime("ms")),
        "ns": pl.Series([1, None], dtype=pl.Int64).cast(pl.Datetime("ns")),
        "utc": pl.Series([1, None], dtype=pl.Int64).cast(pl.Datetime("ns", "UTC")),
        "l": pl.Series([[Decimal("1.50"), None], None], dtype=pl.List(pl.Decimal(10, 2))),
        "r": pl.Series([{"x": b"\x01", "y": datetime(2024, 1, 1)}, None]),
        "dur": pl.Series([timedelta(days=1, seconds=1), None]),
    }
)
FIRST = {
    "s": "a",
    "i": 2**63 - 1,
    "f": 0.1,
    "d": "12345678901234567890123456.0010",
    "b": "00ff",
    "o": True,
    "day": "2024-02-29",
    "clock": "01:02:03.004000",
    "ms": "2024-01-01T01:02:03.004",
    "ns": "1970-01-01T00:00:00.000000001",
    "utc": "1970-01-01T00:00:00.000000001+00:00",
    "l": ["1.50", None],
    "r": {"x": "01", "y": "2024-01-01T00:00:00"},
    "dur": "1 day, 0:00:01",
}


def test_json_is_one_array_of_exact_values(capsys: pytest.CaptureFixture[str]):
    show(EVERYTHING, output_format="json")
    first, second = json.loads(capsys.readouterr().out)
    assert first == FIRST
    assert second == dict.fromkeys(FIRST) | {"f": "inf"}
    show(EVERYTHING.clear(), output_format="json")
    assert json.loads(capsys.readouterr().out) == []


def test_csv_holds_the_same_values(capsys: pytest.CaptureFixture[str]):
    show(EVERYTHING, output_format="csv")
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    expected = FIRST | {"i": str(2**63 - 1), "f": "0.1", "o": "true", "l": '["1.50", null]'}
    assert first == expected | {"r": json.dumps(FIRST["r"])}
    assert second == dict.fromkeys(FIRST, "") | {"f": "inf"}


def test_a_table_that_goes_into_a_pipe_is_not_squeezed(capsys: pytest.CaptureFixture[str]):
    show(EVERYTHING, output_format="table")
    printed = capsys.readouterr().out
    for text in ("12345678901234567890123456.0010", "1970-01-01T00:00:00.000000001+00:00", "null", '["1.50", null]'):
        assert text in printed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(frame: pl.DataFrame, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    show(frame, output_format="table")
    return terminal.getvalue()


def test_a_table_wider_than_the_terminal_is_folded(monkeypatch: pytest.MonkeyPatch):
    frame = pl.DataFrame({"id": [1], "folded": ["x" * 70]})
    printed = on_terminal(frame, 40, monkeypatch)
    assert max(map(len, printed.splitlines())) <= 40
    assert printed.count("x") == 70


def test_too_many_columns_become_one_line_a_value(monkeypatch: pytest.MonkeyPatch):
    frame = pl.DataFrame({f"column_{number}": [f"value {number}", None] for number in range(12)})
    printed = on_terminal(frame, 60, monkeypatch)
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 60
    assert any(line.startswith("column_11") and "value 11" in line for line in lines)
    assert len(lines) == 2 * (12 + 1)


@pytest.mark.parametrize("value", ["\x1b[31mred", "a\nb", "\x07", "\u202eevil", "[bold]x[/bold]", ":smile:"])
def test_values_cannot_steer_the_terminal(value: str, capsys: pytest.CaptureFixture[str]):
    show(pl.DataFrame({"c": [value]}), output_format="table")
    printed = capsys.readouterr().out
    assert not set("\x1b\x07\u202e") & set(printed)
    assert len(printed.splitlines()) == 5
    if value.startswith(("[", ":")):
        assert value in printed


def test_a_frame_without_rows_shows_its_columns(capsys: pytest.CaptureFixture[str]):
    show(pl.DataFrame(schema={"a": pl.Int64, "b": pl.String}), output_format="table")
    assert "a" in capsys.readouterr().out
