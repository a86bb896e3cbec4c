"""Runs that start within a fraction of a second, and whose death is noticed: see ``launcher``."""
