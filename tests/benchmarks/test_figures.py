"""The page of figures: scenarios that run renew their own part, the others' stand."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import BEGIN, END, OURS, Figure, Section, write_page

_ORDER = ("upsert", "planning")


def _section(title: str, value: float) -> Section:
    return Section(title=title, text="What was done.", figures=(Figure(work="work", engine=OURS, values=(value,)),))


def test_a_scenario_renews_its_own_part_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    write_page(page, {"planning": [_section("Plans", 1.25), _section("More plans", 1.5)]}, "first", _ORDER)
    write_page(page, {"upsert": [_section("Upserts", 2.25)]}, "second", _ORDER)
    write_page(page, {"planning": [_section("Plans", 3.25)]}, "third", _ORDER)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert [line for line in text.splitlines() if line.startswith("### ")] == ["### Upserts", "### Plans"]
    assert [part in text for part in ("| 2.25 s |", "| 3.25 s |", "1.25 s")] == [True, True, False]
    assert [f"`{command}`" in text for command in ("first", "second", "third")] == [False, True, True]


def test_a_scenario_that_is_no_more_leaves_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}")
    write_page(page, {"planning": [_section("Plans", 1.0)]}, "first", _ORDER)
    write_page(page, {"upsert": [_section("Upserts", 1.0)]}, "second", ("upsert",))
    assert "Plans" not in page.read_text()
