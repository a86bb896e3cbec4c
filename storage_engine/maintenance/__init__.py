"""What keeps a table small and tidy: expiry, orphans, tags, branches."""
