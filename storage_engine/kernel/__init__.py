"""Frames in, frames out: the only room where rows are computed. No IO."""
