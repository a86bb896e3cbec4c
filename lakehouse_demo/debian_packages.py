"""Programs from Debian's packages in a folder of their own: nothing of the system is touched, and no root is needed.

For a program that the system's own release does not have. The packages and all that they need come by ``apt-get`` from
the mirror that the system uses, and are checked by apt against the keys of ``debian-archive-keyring``; they are unpacked
beside each other, C library and loader included, so a program starts by that loader.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUITE: Final = "sid"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TIMEOUT_S: Final = 300

_CONFIGURATION: Final = """\
Dir "{root}";
Dir::State "{root}";
Dir::State::Lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc "{root}/etc";
Dir::Bin::Methods "/usr/lib/apt/methods";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
APT::Update::Error-Mode "any";
Acquire::Check-Valid-Until "false"; // a mirror may lag behind; its signature counts
"""
_THERE: Final = """\
Package: {name}
Status: install ok installed
Architecture: {architecture}
Multi-Arch: allowed
Version: 999
Maintainer: nobody
Description: is taken for installed

"""


class PackagesUnavailable(Exception):
    """Packages cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackedPackages:
    """Packages that stand unpacked in a folder."""

    root: Path

    def command(self, program: str) -> list[str]:
        """What starts a program such as ``usr/sbin/mysqld``: the loader, its libraries, the program."""
        (loader,) = sorted(self.root.glob("usr/lib/*/ld-linux-*.so.*"))[:1]
        return [str(loader), "--library-path", str(loader.parent), str(self.root / program)]


def unpacked(names: Sequence[str], folder: Path, *, without: Sequence[str] = ()) -> UnpackedPackages:
    """Packages and what they need, in a folder that is filled if it is not there, as a whole or not at all.

    REQUIRES: one caller at a time fills it. ``without``: packages that are needed by what is never run. Raises
    PackagesUnavailable.
    """
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            _fill(part, names, without)
            (part / "root").rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return UnpackedPackages(root=folder)


def _fill(part: Path, names: Sequence[str], without: Sequence[str]) -> None:
    for program in ("apt-get", "apt-config", "dpkg", "dpkg-deb"):
        if shutil.which(program) is None:
            raise PackagesUnavailable(f"{program} is not on this machine")
    if not KEYRING.exists():
        raise PackagesUnavailable(f"{KEYRING} is not there; install debian-archive-keyring")
    for made in (
        "lists/partial",
        "cache/archives/partial",
        "etc/apt.conf.d",
        "etc/preferences.d",
        "etc/trusted.gpg.d",
        "root",
    ):
        (part / made).mkdir(parents=True)
    architecture = _run(["dpkg", "--print-architecture"]).strip()
    source = f"deb [arch={architecture} signed-by={KEYRING}] {_mirror()} {SUITE} main\n"
    (part / "etc" / "sources.list").write_text(source)
    there = [_THERE.format(name=name, architecture=architecture) for name in without]
    (part / "status").write_text("".join(there))
    configuration = part / "apt.conf"
    as_the_system = _run(["apt-config", "dump", "Acquire"])  # proxies, above all
    configuration.write_text(as_the_system + _CONFIGURATION.format(root=part, architecture=architecture))
    _run(["apt-get", "--quiet=2", "update"], apt=configuration)
    _run(["apt-get", "--quiet=2", "--yes", "--download-only", "install", *names], apt=configuration)
    for package in sorted((part / "cache" / "archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(part / "root")])


def _mirror() -> str:
    """Where the system gets Debian's packages. Raises PackagesUnavailable if it is not Debian."""
    sites = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]).split()
    found = [site for site in sites if re.search(r"/debian/?$", site)]
    if not found:
        raise PackagesUnavailable("this system gets no packages of Debian")
    return found[0]


def _run(command: list[str], *, apt: Path | None = None) -> str:
    """What a program says. Raises PackagesUnavailable if it fails."""
    environment = os.environ | {"LC_ALL": "C.UTF-8"} | ({"APT_CONFIG": str(apt)} if apt else {})
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise PackagesUnavailable(f"{' '.join(command[:4])} took more than {TIMEOUT_S} s") from error
    if done.returncode:
        raise PackagesUnavailable(f"{' '.join(command[:4])} failed: {(done.stdout + done.stderr)[-1000:]}")
    return done.stdout
