"""How a declared stream is run: by a schedule, by a sensor for as long as changes keep coming, or all the time."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Mode: TypeAlias = Literal["batch", "micro-batch", "continuous"]
"""``batch``: a schedule takes what is there. ``micro-batch``: a sensor starts a run when there are changes, which lingers
until they cease. ``continuous``: one run is always alive. The declaration, the offsets and the results are the same."""

MODES: Final[tuple[Mode, ...]] = ("batch", "micro-batch", "continuous")
