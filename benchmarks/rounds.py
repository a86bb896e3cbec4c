"""Where rounds take place: folders, the engines' processes, and the table that each of them starts from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.dataset import create_table
from benchmarks.java_peer import JavaPeer

PYPAIMON_PYTHON = os.environ.get("PYPAIMON_PYTHON", ".venv-pypaimon/bin/python")
"""pypaimon pins older Arrow and Polars, so it lives in an environment of its own."""
PYTHONS = {"ours": sys.executable, "pypaimon-rust": sys.executable, "pypaimon": PYPAIMON_PYTHON}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How much is measured. ``folder``: where everything is written, and removed again. ``java_wanted``: peers in Java, too.

    ``seconds``: how long a throughput is sustained; ``rate``: events a second that come in, 0: as many as are taken;
    ``abreast``: movers at a time, 0: as many as a continuous run has.
    """

    rounds: int
    scale: float
    folder: Path
    java: JavaPeer | None
    java_wanted: bool = True
    seconds: float = 30
    rate: int = 0
    abreast: int = 0

    def rows(self, count: int) -> int:
        """A number of rows at this scale."""
        return max(1000, int(count * self.scale))

    @contextmanager
    def warehouse(self, options: Mapping[str, str], *, copy_of: Path | None = None) -> Iterator[Path]:
        """A warehouse with ``db.t``, empty or as a copy of another one."""
        path = Path(tempfile.mkdtemp(prefix="warehouse-", dir=self.folder))
        try:
            if copy_of is None:
                create_table(path, options)
            else:
                shutil.copytree(copy_of, path, copy_function=_link, dirs_exist_ok=True)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """Data files never change, so a link is as good as a copy; Java writes its hints in place."""
    if source.endswith(".parquet"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def engines() -> list[str]:
    """The Python engines that are installed."""
    return [name for name in ("pypaimon-rust", "pypaimon") if _is_there(name)]


def _is_there(engine: str) -> bool:
    if not os.path.exists(PYTHONS[engine]):
        return False
    module = engine.replace("-", "_")
    return subprocess.run([PYTHONS[engine], "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def drive(engine: str, warehouse: Path, *steps: Sequence[Any]) -> dict[str, Any]:
    """Do steps in a process of an engine; see ``benchmarks.drivers``."""
    command = [PYTHONS[engine], "-m", "benchmarks.drivers", engine, str(warehouse), json.dumps(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{engine} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
