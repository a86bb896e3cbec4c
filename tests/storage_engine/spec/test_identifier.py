"""Names of tables, branches and system tables."""

from __future__ import annotations

import pytest

from storage_engine.errors import InvalidInput
from storage_engine.spec.identifier import Identifier, check_name


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("t", Identifier(database="default", table="t")),
        ("a.t", Identifier(database="a", table="t")),
        ("a.t$branch_b-1", Identifier(database="a", table="t", branch="b-1")),
        ("a.t$Snapshots", Identifier(database="a", table="t", system="snapshots")),
        ("a.t$branch_b$files", Identifier(database="a", table="t", branch="b", system="files")),
        ("ä.my table", Identifier(database="ä", table="my table")),
    ],
)
def test_names_are_read(text: str, identifier: Identifier):
    assert Identifier.parse(text) == identifier
    assert Identifier.parse(str(identifier)) == identifier


def test_a_bare_name_belongs_to_the_given_database():
    assert Identifier.parse("t", database="ods").full_name == "ods.t"


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".t", "a.b.t", "a/b", "../t", "a.t$", "a.t$branch_", "a.t$x$y", "a.t$branch_b$x$y", "a\\b", "a.t\n"]
    + [f"a.t{sign}" for sign in "*?[]{}#%:|<>\"'`"]
    + ["a. t", "a.t ", "x" * 129, "ä" * 65],
)
def test_names_that_could_not_be_directories_are_refused(text: str):
    with pytest.raises(InvalidInput, match="name of a"):
        Identifier.parse(text)


def test_the_message_names_the_whole_name_too():
    with pytest.raises(InvalidInput, match=r"'b\.c'.*\(in 'b\.c\.t'\) cannot be the name of a database"):
        Identifier.parse("b.c.t")
    with pytest.raises(InvalidInput, match="'a/b' cannot be the name of a branch"):
        check_name("a/b", "branch")
