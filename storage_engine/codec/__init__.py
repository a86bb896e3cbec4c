"""Bytes to spec and back. No IO."""
