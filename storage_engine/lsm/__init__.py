"""The merge tree of one bucket: levels, sorted runs and what to compact."""
