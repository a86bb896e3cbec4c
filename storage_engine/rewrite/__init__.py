"""Rewrites of what a table holds: rows deleted and updated by a predicate."""
