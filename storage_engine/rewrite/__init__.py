"""Rewrites of what a table holds: rows deleted, updated and sorted."""
