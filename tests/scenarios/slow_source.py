"""A source of its own process: lands a stream slice by slice. Arguments: folder, seconds between slices, the stream as JSON."""

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
    for _ in land(StreamConfig(**{**stream, "start": date.fromisoformat(stream["start"])}), Path(folder)):
        time.sleep(every_s)
