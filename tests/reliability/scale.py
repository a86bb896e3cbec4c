"""How much is tried. ``RELIABILITY_SCALE`` (1: what CI has time for) and ``RELIABILITY_SEED`` may be set for longer runs."""

from __future__ import annotations

import os

SCALE = int(os.environ.get("RELIABILITY_SCALE", "1"))
SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
