"""MariaDB as a private server: Debian's package, which ``install`` gets where we are root and it is absent."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from lakehouse_demo.private_server import ServerMissing, run_to_its_end
from lakehouse_demo.sql_server import SqlServer, as_root

PACKAGE: Final = "mariadb-server"
PROGRAM_PATH: Final = "/usr/sbin:/usr/local/sbin:/sbin"


class MariaDbServer(SqlServer):
    """A MariaDB server in a folder of its own; needs the program ``mariadbd``."""

    title = "MariaDB"
    rights = "REPLICATION SLAVE, BINLOG MONITOR"

    @classmethod
    def install(cls) -> None:
        """Get the server from Debian's package where it is absent. Raises ServerMissing where that cannot be
        done.
        """
        if installed():
            return
        apt = shutil.which("apt-get")
        if apt is None or os.geteuid() != 0:
            raise ServerMissing(
                f"mariadbd is not installed; install Debian's package {PACKAGE} (or MariaDB 10.6 or newer)"
            )
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", PACKAGE]):
            command = [apt, "-q", *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if not installed():
            raise ServerMissing(f"apt-get could not install {PACKAGE}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")

    def command(self) -> list[str]:
        """The program ``mariadbd``. Raises ServerMissing."""
        program = _program("mariadbd")
        if program is None:
            raise ServerMissing("mariadbd is not installed")
        return [program]

    def settings(self) -> str:
        """The log, and redo files that are small."""
        return "socket=mariadb.sock\nlog-bin=mariadb-bin\nbinlog-format=ROW\ninnodb-log-file-size=16M"

    def create(self, data: Path, temporary: Path) -> None:
        """Fill a new data directory. Raises ServerMissing and ServerFailed."""
        program = _program("mariadb-install-db")
        if program is None:
            raise ServerMissing("mariadb-install-db is not installed")
        arguments = [f"--datadir={data}", *as_root(), "--auth-root-authentication-method=socket"]
        run_to_its_end(
            [program, "--no-defaults", "--skip-test-db", "--skip-name-resolve", *arguments],
            data,
            TMPDIR=str(temporary),
        )


def installed() -> bool:
    """Whether the server's programs are on this machine."""
    return _program("mariadbd") is not None and _program("mariadb-install-db") is not None


def _program(name: str) -> str | None:
    """Where a program of the server is; Debian keeps daemons where users do not look for them."""
    return shutil.which(name) or shutil.which(name, path=PROGRAM_PATH)
