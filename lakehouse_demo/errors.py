"""What can stop the main job, told in one line: nothing is lost, and the same command goes on from there."""

from __future__ import annotations


class DemoError(RuntimeError):
    """The job cannot go on; the message says what to do."""


class AlreadyClaimed(DemoError):
    """The warehouse was filled from another source or stream."""


class LandingBusy(DemoError):
    """Another process lands files in the folder."""


class MicroBatchFailed(DemoError):
    """A run failed; the message names its step and its error."""
