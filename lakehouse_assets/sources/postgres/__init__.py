"""PostgreSQL as a source of changes: a snapshot, then logical replication, each change once."""
