"""What the Flink JVM needs: Java, the class path that `pom.xml` names, and our compiled server.

Jars and classes are kept under ``$LAKEHOUSE_FLINK_HOME`` (default ``.flink`` in the repository), each in a folder
named by the hash of what made it; a folder appears by a rename, only when it is whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lakehouse_demo.java import JavaUnavailable, digest, home_of, jars_of, java_tool, locked, made, run

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
JAVA_RELEASE = "17"


class FlinkError(Exception):
    """A statement failed inside Flink or Paimon, or Flink could not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A Java executable and the class path to start it with."""

    java: Path
    class_path: str


def find_java() -> Path | None:
    """The ``java`` of ``$JAVA_HOME``, else of ``$PATH``."""
    return java_tool("java")


def prepare(home: Path | None = None, *, sources: Path = HERE) -> Toolchain:
    """Fetches the jars and compiles the server, or the other ``*.java`` of a folder, unless ``home`` holds them.

    Raises:
        JavaUnavailable: something is missing and cannot be made; the message says what.
    """
    java = find_java()
    if java is None:
        raise JavaUnavailable("java is neither in $JAVA_HOME nor on $PATH")
    home = home or home_of("LAKEHOUSE_FLINK_HOME", ".flink")
    with locked(home):
        jars = jars_of(POM, home)
        files = sorted(sources.glob("*.java"))
        classes = made(
            home / f"classes-{digest([POM, *files])}",
            lambda folder: _compile(files, class_path=f"{jars}/*", folder=folder),
        )
    # hadoop-client-runtime holds older copies of other jars' classes, so it comes last
    in_order = sorted(jars.glob("*.jar"), key=lambda jar: (jar.name.startswith("hadoop-"), jar.name))
    return Toolchain(java=java, class_path=os.pathsep.join(map(str, [classes, *in_order])))


def _compile(sources: list[Path], *, class_path: str, folder: Path) -> None:
    javac = java_tool("javac")
    if javac is None:
        raise JavaUnavailable("java is there but javac is not: install a JDK, not only a runtime")
    options = ["--release", JAVA_RELEASE, "-nowarn", "-encoding", "UTF-8", "-cp", class_path, "-d", str(folder)]
    run([str(javac), *options, *map(str, sources)], what="javac could not compile the Java sources")
