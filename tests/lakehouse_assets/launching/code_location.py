"""What the launcher's tests launch: an asset that waits for a file, and says in which process."""

import os
import time
from pathlib import Path

import dagster as dg


class Wait(dg.Config):
    folder: str


@dg.asset
def waiting(config: Wait) -> None:
    folder = Path(config.folder)
    (folder / "process").write_text(str(os.getpid()))
    while not (folder / "go").exists():
        time.sleep(0.02)


defs = dg.Definitions(assets=[waiting], executor=dg.in_process_executor)
