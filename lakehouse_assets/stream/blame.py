"""Errors say which statement they come from: whoever runs a declaration adds it as a note, and their type stays what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from lakehouse_assets.stream.declaration import Stream
from storage_engine.errors import told

P = ParamSpec("P")
T = TypeVar("T")
NAMED: Final = 3
"""So many tables and places a note names; of more it says how many."""


class Declared(Protocol):
    """A stream or an ingestion."""

    @property
    def target(self) -> str:
        """The table that it fills."""

    @property
    def declared_at(self) -> str:
        """Where it stands; "" if that is not told."""


def blame(error: BaseException | None, declared: Sequence[Declared], what: str) -> None:
    """Add the note (``BaseException.add_note``) where they are declared, unless it says so of one of them already."""
    told_of = [each for each in declared if each.declared_at]
    places = [each.declared_at for each in told_of]
    if places and isinstance(error, Exception) and not any(place in told(error) for place in places):
        one = len(places) == 1
        targets = _listed([each.target for each in told_of])
        error.add_note(
            f"the {what if one else f'{what}s'} into {targets} {'is' if one else 'are'} declared in {_listed(places)}"
        )


def _listed(names: Sequence[str]) -> str:
    known = list(dict.fromkeys(names))
    if len(known) > NAMED:
        known = [*known[:NAMED], f"{len(known) - NAMED} more"]
    return " and ".join((", ".join(known[:-1]), known[-1])) if len(known) > 1 else known[0]


class Blaming:
    """What fails within says where the streams are declared, unless it says so of one of them already."""

    def __init__(self, *streams: Stream) -> None:
        self._streams = streams

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Add the note."""
        blame(error, self._streams, "stream")


class _OfStream(Protocol):
    @property
    def stream(self) -> Stream:
        """The stream that is run."""


S = TypeVar("S", bound=_OfStream)


def blamed(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method whose errors say where the stream of its object is declared."""

    @wraps(method)
    def blaming(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with Blaming(self.stream):
            return method(self, *args, **kwargs)

    return blaming
