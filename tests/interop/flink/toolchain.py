"""What the Flink JVM needs: Java, the class path that `pom.xml` names, and our compiled server.

Jars and classes are kept under ``$LAKEHOUSE_FLINK_HOME`` (default ``.flink`` in the repository), each in a folder
named by the hash of what made it; a folder appears by a rename, only when it is whole.
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
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
POM = HERE / "pom.xml"
JAVA_RELEASE = "17"
OUTPUT_TAIL_CHARACTERS = 4000


class FlinkError(Exception):
    """A statement failed inside Flink or Paimon, or Flink could not run."""


class FlinkUnavailable(FlinkError):
    """Java, Maven or a jar is missing on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A Java executable and the class path to start it with."""

    java: Path
    class_path: str


def find_java() -> Path | None:
    """The ``java`` of ``$JAVA_HOME``, else of ``$PATH``."""
    return _java_tool("java")


def prepare(home: Path | None = None, *, sources: Path = HERE) -> Toolchain:
    """Fetches the jars and compiles the server, or the other ``*.java`` of a folder, unless ``home`` holds them.

    Raises:
        FlinkUnavailable: something is missing and cannot be made; the message says what.
    """
    java = find_java()
    if java is None:
        raise FlinkUnavailable("java is neither in $JAVA_HOME nor on $PATH")
    home = home or Path(os.environ.get("LAKEHOUSE_FLINK_HOME") or REPOSITORY / ".flink")
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        (home / ".gitignore").write_text("*\n")
        jars = _made(home / f"jars-{_digest([POM])}", _fetch_jars)
        files = sorted(sources.glob("*.java"))
        classes = _made(
            home / f"classes-{_digest([POM, *files])}",
            lambda folder: _compile(files, class_path=f"{jars}/*", folder=folder),
        )
    # hadoop-client-runtime holds older copies of other jars' classes, so it comes last
    in_order = sorted(jars.glob("*.jar"), key=lambda jar: (jar.name.startswith("hadoop-"), jar.name))
    return Toolchain(java=java, class_path=os.pathsep.join(map(str, [classes, *in_order])))


def _java_tool(name: str) -> Path | None:
    java_home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=str(Path(java_home, "bin"))) if java_home else None
    found = found or shutil.which(name)
    return None if found is None else Path(found)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _made(folder: Path, make: Callable[[Path], None]) -> Path:
    """``folder``, filled by ``make`` under a name of its own first if it is not there. REQUIRES: the lock."""
    if not folder.exists():
        for abandoned in folder.parent.glob(f"{folder.name}.part-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
        make(part)
        part.rename(folder)
    return folder


def _fetch_jars(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise FlinkUnavailable(f"Flink's jars are not in {folder.parent} and there is no mvn on $PATH to fetch them")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    _run(
        [maven, "--batch-mode", "--quiet", "--file", str(POM), *goal],
        what="Maven could not fetch Flink's jars",
    )


def _compile(sources: list[Path], *, class_path: str, folder: Path) -> None:
    javac = _java_tool("javac")
    if javac is None:
        raise FlinkUnavailable("java is there but javac is not: install a JDK, not only a runtime")
    options = ["--release", JAVA_RELEASE, "-nowarn", "-encoding", "UTF-8", "-cp", class_path, "-d", str(folder)]
    _run([str(javac), *options, *map(str, sources)], what="javac could not compile the Java sources")


def _run(command: list[str], *, what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise FlinkUnavailable(
            f"{what} (exit code {done.returncode}):\n{(done.stdout + done.stderr)[-OUTPUT_TAIL_CHARACTERS:]}"
        )
