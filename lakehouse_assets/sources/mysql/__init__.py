"""MySQL and MariaDB as sources of changes: a consistent snapshot, then the binary log, each change once."""
