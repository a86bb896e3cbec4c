"""From a frame to a committed snapshot."""
