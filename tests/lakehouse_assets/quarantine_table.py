"""A quarantine for warehouses of tests that have none of the project's tables."""

from __future__ import annotations

QUARANTINE_DDL = """
CREATE DATABASE IF NOT EXISTS ods;
CREATE TABLE IF NOT EXISTS ods.quarantine (
    source_file STRING, line BIGINT, target STRING, reason STRING, raw STRING, quarantined_at TIMESTAMP(3),
    corrected STRING, replayed_at TIMESTAMP(3), PRIMARY KEY (source_file, line) NOT ENFORCED
) WITH ('bucket' = '1', 'merge-engine' = 'partial-update');
"""
