"""From a snapshot to a frame."""
