"""Errors say which statement they come from: whoever runs a stream adds it as a note, and their type stays what it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from lakehouse_assets.stream.declaration import Stream
from storage_engine.errors import told

P = ParamSpec("P")
T = TypeVar("T")


class Blaming:
    """What fails within says where the streams are declared, unless it says so of one of them already."""

    def __init__(self, *streams: Stream) -> None:
        self._streams = streams

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Add the note (``BaseException.add_note``)."""
        places = [stream.declared_at for stream in self._streams if stream.declared_at]
        if places and isinstance(error, Exception) and not any(place in told(error) for place in places):
            one = len(places) == 1
            said = (
                f"{'stream' if one else 'streams'} into {self._streams[0].target} {'is' if one else 'are'} declared in"
            )
            error.add_note(f"the {said} {' and '.join(places)}")


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
