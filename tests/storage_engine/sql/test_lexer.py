"""Tokens, positions and statements apart."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.errors import SqlError
from storage_engine.sql.lexer import MAX_DEPTH, Source, TokenKind, split_statements, tokenize


def values(text: str) -> list[str]:
    return [token.value for token in tokenize(Source(text))][:-1]


def test_quotes_are_removed_and_doubled_quotes_are_one():
    assert values("'it''s' `a``b` \"c\"\"d\" ''") == ["it's", "a`b", 'c"d', ""]


def test_comments_and_blanks_are_left_out_wherever_they_stand():
    assert values("SELECT -- one ; '\n 1 /* two ; ' \n */ + 2--end") == ["SELECT", "1", "+", "2"]


def test_a_hint_is_kept():
    tokens = tokenize(Source("t /*+ OPTIONS('a'='b') */"))
    assert (tokens[1].kind, tokens[1].value) == (TokenKind.HINT, "OPTIONS('a'='b')")


def test_a_system_table_is_one_word():
    assert values("db.t$snapshots t$branch_x$files") == ["db", ".", "t$snapshots", "t$branch_x$files"]


def test_comment_marks_inside_strings_and_identifiers_are_text():
    assert values("'--a' '/*b*/' `;c`") == ["--a", "/*b*/", ";c"]


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        (" ; ;\n-- nothing\n;", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT ';' ; SELECT `;` -- ; \n;", ["SELECT ';'", "SELECT `;`"]),
        ("a /* ; */ b; c", ["a /* ; */ b", "c"]),
        ("-- first\nUSE a;\n-- last", ["USE a"]),
    ],
)
def test_scripts_are_split_at_semicolons_alone(text: str, statements: list[str]):
    assert split_statements(text) == statements


@pytest.mark.parametrize(
    ("text", "position", "hint"),
    [
        ("SELECT 'a", "line 1, column 8", "single quote"),
        ("USE a;\nUSE `b", "line 2, column 5", "backtick"),
        ("a\r\nb /* c", "line 2, column 3", "*/"),
        ("a\rb\r  §", "line 3, column 3", "'§'"),
        ("a\n 1_000", "line 2, column 2", "'1_000' is no number"),
        ("a, 1e", "line 1, column 4", "'1e' is no number"),
        ("0x1F", "line 1, column 1", "'0x1F' is no number"),
        ("a\n u&'b'", "line 2, column 2", "plain string"),
        ("(a))", "line 1, column 4", "closes nothing"),
        ("a (b", "line 1, column 3", "never closed"),
        ("a (b]", "line 1, column 5", "closes nothing"),
    ],
)
def test_errors_name_line_and_column_and_say_what_to_do(text: str, position: str, hint: str):
    with pytest.raises(SqlError) as error:
        split_statements(text)
    assert str(error.value).startswith(position)
    assert hint in str(error.value)


def test_deep_nesting_is_refused_and_shallow_is_not():
    assert split_statements("(" * MAX_DEPTH + ")" * MAX_DEPTH)
    with pytest.raises(SqlError, match="nested deeper"):
        split_statements("SELECT " + "(" * 100_000 + "1" + ")" * 100_000)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), max_size=6))
def test_strings_survive_whatever_they_hold(texts: list[str]):
    script = ";\n".join("VALUES '" + text.replace("'", "''") + "'" for text in texts)
    assert [tokenize(Source(part))[1].value for part in split_statements(script)] == texts


@given(st.text(max_size=60))
def test_any_text_gives_statements_or_a_sql_error(text: str):
    with suppress(SqlError):
        assert all(part in text for part in split_statements(text))
