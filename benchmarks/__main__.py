"""``python -m benchmarks``: all benchmarks."""

from __future__ import annotations

from benchmarks import costs, upsert

upsert.run()
costs.run()
