"""Java, and jars that a ``pom.xml`` names, for servers that the demo and the tests start.

Jars are kept in a folder named by the hash of what made it; a folder appears by a rename, only when it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT_TAIL_CHARACTERS = 4000


class JavaUnavailable(Exception):
    """Java, Maven or a jar is missing on this machine."""


def java_tool(name: str) -> Path | None:
    """A program of ``$JAVA_HOME``, else of ``$PATH``."""
    java_home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=str(Path(java_home, "bin"))) if java_home else None
    found = found or shutil.which(name)
    return None if found is None else Path(found)


def home_of(variable: str, folder: str) -> Path:
    """Where a server's jars are kept: the folder that a variable names, or one in the repository that git ignores."""
    home = Path(os.environ.get(variable) or REPOSITORY / folder)
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitignore").write_text("*\n")
    return home


def jars_of(pom: Path, home: Path) -> Path:
    """The folder with a pom's jars, fetched if need be. REQUIRES: ``locked(home)``. Raises JavaUnavailable."""
    return made(home / f"jars-{digest([pom])}", lambda folder: _fetch(pom, folder))


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Nobody else fills the folder meanwhile."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest(files: list[Path]) -> str:
    """What names a folder that was made from files."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """``folder``, filled by ``make`` under a name of its own first if it is not there. REQUIRES: the lock."""
    if not folder.exists():
        for abandoned in folder.parent.glob(f"{folder.name}.part-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
        make(part)
        part.rename(folder)
    return folder


def run(command: list[str], *, what: str) -> None:
    """Run a program to its end. Raises JavaUnavailable with the end of what it said."""
    done = subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        raise JavaUnavailable(
            f"{what} (exit code {done.returncode}):\n{(done.stdout + done.stderr)[-OUTPUT_TAIL_CHARACTERS:]}"
        )


def _fetch(pom: Path, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise JavaUnavailable(f"the jars of {pom.name} are not in {folder.parent} and there is no mvn to fetch them")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    run(
        [maven, "--batch-mode", "--quiet", "--file", str(pom), *goal],
        what=f"Maven could not fetch the jars of {pom.name}",
    )
