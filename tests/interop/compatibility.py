"""What the tests against real Flink have seen, as a table: feature by feature, and who did what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.interop.flink.toolchain import POM

_POM_NAMESPACE = {"m": "http://maven.apache.org/POM/4.0.0"}
_HEAD = """# Compatibility with Apache Paimon {paimon} and Apache Flink {flink}

Written by the tests in `tests/interop`, from what they have seen:

    pytest tests/interop --compatibility docs/compatibility.md

After each step of each test, both engines read the table, and their rows were equal; where the last column is ticked,
so were the changes of every snapshot. "Paimon" is a Flink job, or the core library that such jobs run on.
✓ seen equal, ✗ seen to differ, · not tried.
"""


class Seen(Enum):
    """Who did what before both engines read the same."""

    WE_WRITE = "we write, Paimon reads"
    PAIMON_WRITES = "Paimon writes, we read"
    BOTH_WRITE = "both write"
    WE_COMPACT = "we compact"
    PAIMON_COMPACTS = "Paimon compacts"
    CHANGES = "equal changes"


@dataclass(slots=True)
class Report:
    """Features in the order in which they were first seen, by area."""

    features: dict[str, dict[str, dict[Seen, bool]]] = field(default_factory=dict)
    differences: dict[str, bool] = field(default_factory=dict)

    def add(self, area: str, feature: str, seen: Iterable[Seen], *, passed: bool) -> None:
        """A test of a feature; it counts as failed once one of its tests fails."""
        cells = self.features.setdefault(area, {}).setdefault(feature, {})
        for way in seen:
            cells[way] = cells.get(way, True) and passed

    def add_difference(self, text: str, *, passed: bool) -> None:
        """A test that shows what is not alike."""
        self.differences[text] = self.differences.get(text, True) and passed

    def write(self, path: Path) -> None:
        """Writes it as Markdown."""
        versions = _versions()
        parts = [_HEAD.format(**versions)]
        for area, features in self.features.items():
            parts.append(_table(area, features))
        if self.differences:
            lines = [f"- {'' if passed else '✗ '}{text}" for text, passed in self.differences.items()]
            parts.append(
                "## What differs on purpose, or is refused\n\nEach shown by a test.\n\n" + "\n".join(lines) + "\n"
            )
        path.write_text("\n".join(parts))


def _table(area: str, features: dict[str, dict[Seen, bool]]) -> str:
    lines = [
        f"## {area}\n",
        "| | " + " | ".join(way.value for way in Seen) + " |",
        "|---|" + ":-:|" * len(Seen),
    ]
    for feature, cells in features.items():
        marks = ["·" if way not in cells else "✓" if cells[way] else "✗" for way in Seen]
        lines.append(f"| {feature} | " + " | ".join(marks) + " |")
    return "\n".join(lines) + "\n"


def _versions() -> dict[str, str]:
    properties = ET.parse(POM).getroot().find("m:properties", _POM_NAMESPACE)
    assert properties is not None
    return {name: properties.findtext(f"m:{name}.version", "", _POM_NAMESPACE) for name in ("flink", "paimon")}
