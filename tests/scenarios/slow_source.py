"""A source of its own process: lands a stream slice by slice. Arguments: folder, seconds between slices, the stream as JSON.

The fewer slices are left, the longer it waits for the next: half the speed when half is landed, a tenth when a tenth is left. So
it goes on for as long as a slow machine takes, and yet no stream is longer than a fast one wants it to be.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import date
from pathlib import Path

from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import land

if __name__ == "__main__":
    folder, every_s, stream = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
    config = StreamConfig(**{**stream, "start": date.fromisoformat(stream["start"])})
    for part in land(config, Path(folder)):
        time.sleep(every_s * config.slices / (config.slices - part.index))
