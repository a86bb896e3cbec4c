"""The rules of the house, so that they do not decay: what CONTRIBUTING.md asks of the code, and of every tracked file."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("storage_engine", "lakehouse_assets", "lakehouse_demo", "lakehouse_cli")
FILE_LINES = 400
FUNCTION_LINES = 60

# Where an import may stand inside a function, and why.
LATE_IMPORTS: dict[str, str] = {
    "storage_engine/store/file_io.py": "fsspec brings asyncio and ssl, which tables on a disk do not need",
}
# Where everything may be caught, and why.
LAST_DOORS = {"lakehouse_cli/main.py": "an error of the engine becomes one line on stderr; all else is raised again"}
# Calls that run Python for each row.
ROW_LOOPS = {"map_elements", "map_rows", "to_pylist"}
# Spelled in parts, so that this file may be searched as well.
BANNED = {
    "a registry's host": r"\b(pypi|pythonhosted)\.org\b|\brepo1?\.maven\b|\b(deb|security)\.debian\.org\b|\bnpmjs\b",
    "a path of one machine": r"(?<![\w.}~-])/" + r"(work|root|home)/",
}
ROW = Iterator[tuple[str, ast.AST]]


@cache
def _tracked() -> tuple[str, ...]:
    """The files of the repository; of an unpacked archive, what lies in its known places."""
    if (ROOT / ".git").exists() and (git := shutil.which("git")):
        done = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return tuple(name for name in done.stdout.split("\0") if name and (ROOT / name).is_file())
    places = [path for name in (*PACKAGES, "tests", "docs", "benchmarks", "tools") for path in (ROOT / name).rglob("*")]
    return tuple(str(path.relative_to(ROOT)) for path in [*places, *ROOT.glob("*")] if path.is_file())


@cache
def _trees() -> dict[str, ast.Module]:
    """Every module of the packages, by its path."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def _nodes(*kinds: type[ast.AST]) -> ROW:
    for path, tree in _trees().items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, kinds))


def _imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module)):
            return [module]
    return []


def test_the_packages_are_there_to_be_judged() -> None:
    assert {path.split("/")[0] for path in _trees()} == set(PACKAGES)


def test_the_engine_names_no_dagster() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, node in _nodes(ast.Import, ast.ImportFrom)
        if path.startswith("storage_engine/") and any(name.startswith("dagster") for name in _imported(node))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("package", "absent"),
    [
        ("storage_engine", {"polars", "numpy", "pyarrow", "storage_engine.table"}),
        ("storage_engine.catalog", {"dagster", "sqlglot", "duckdb", "pandas", "fsspec", "s3fs", "click", "rich"}),
        ("lakehouse_demo.truth", {"dagster", "storage_engine", "lakehouse_assets"}),
        ("lakehouse_cli.main", {"dagster", "polars"}),
    ],
)
def test_importing_loads_no_more_than_is_needed(package: str, absent: set[str]) -> None:
    script = f"import sys, {package}; print(*sorted({absent!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_file_has_one_subject() -> None:
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in _trees()}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_a_function_fits_a_screen() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path, node in _nodes(ast.FunctionDef, ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}


def test_imports_stand_at_the_top() -> None:
    found = [
        f"{path}:{inner.lineno} {ast.unparse(inner)}"
        for path, node in _nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom) and path not in LATE_IMPORTS
    ]
    assert found == []


def test_nothing_catches_everything() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, node in _nodes(ast.ExceptHandler)
        if path not in LAST_DOORS and _caught(node) & {"", "Exception", "BaseException"}
    ]
    assert found == []


def _caught(handler: ast.ExceptHandler) -> set[str]:
    match handler.type:
        case None:
            return {""}
        case ast.Tuple(elts=elements):
            return {ast.unparse(element) for element in elements}
        case single:
            return {ast.unparse(single)}


def test_nothing_runs_python_for_each_row() -> None:
    found = [
        f"{path}:{node.lineno} {node.attr}"
        for path, node in _nodes(ast.Attribute)
        if node.attr in ROW_LOOPS or (node.attr == "iter_rows" and path.startswith("storage_engine/kernel/"))
    ]
    assert found == []


def test_every_module_says_what_it_is() -> None:
    assert [path for path, tree in _trees().items() if not ast.get_docstring(tree)] == []


@pytest.mark.parametrize("allowed", [LATE_IMPORTS, LAST_DOORS], ids=["late imports", "last doors"])
def test_exceptions_to_the_rules_name_files_that_exist(allowed: dict[str, str]) -> None:
    assert [path for path in allowed if path not in _trees()] == []


def test_the_face_of_the_engine_is_sorted_and_whole() -> None:
    face = importlib.import_module("storage_engine")
    assert face.__all__ == sorted(face.__all__)
    told = {
        alias.name
        for node in ast.walk(_trees()["storage_engine/__init__.py"])
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("storage_engine.")
        for alias in node.names
    }
    assert told == set(face.__all__), "what a type checker sees is what can be imported"
    assert {
        name for name in dir(face) if getattr(getattr(face, name), "__module__", "").startswith("storage_engine.")
    } == (told)
    with pytest.raises(AttributeError, match="module 'storage_engine' has no attribute 'Tabel'"):
        _ = face.Tabel


@pytest.mark.parametrize("what", BANNED)
def test_no_tracked_file_names(what: str) -> None:
    pattern = re.compile(BANNED[what])
    found = [
        f"{name}:{number} {match.group()}"
        for name in _tracked()
        for number, line in enumerate(_text(name).splitlines(), start=1)
        if (match := pattern.search(line))
    ]
    assert found == []


def _text(name: str) -> str:
    """A file as text; binary files have none."""
    content = (ROOT / name).read_bytes()
    return "" if b"\0" in content else content.decode("utf-8", errors="replace")


def _pins(lock: str) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", (ROOT / lock).read_text(), re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = lambda requirements: {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}  # noqa: E731
    assert names(project["project"]["dependencies"]) <= _pins("requirements.lock").keys()
    assert names(project["dependency-groups"]["dev"]) <= _pins("requirements-dev.lock").keys()


@pytest.mark.parametrize("larger", ["requirements-dev.lock", "requirements-bench.lock"])
def test_locks_agree(larger: str) -> None:
    smaller, pins = _pins("requirements.lock"), _pins(larger)
    assert {name: pins.get(name) for name in smaller} == smaller


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-bench.lock"])
def test_every_locked_package_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
