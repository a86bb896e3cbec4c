"""Benchmarks beside the named peers, in one run, with ratios printed. ``make bench``; ``python -m benchmarks --help``."""
