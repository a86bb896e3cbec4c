CREATE DATABASE IF NOT EXISTS ods;

CREATE TABLE IF NOT EXISTS ods.quarantine (
    source_file     STRING        COMMENT 'file in the landing folder, or name of the source',
    line            BIGINT        COMMENT 'line in it, from 1',
    target          STRING        COMMENT 'the table that the line was meant for',
    reason          STRING        COMMENT 'the first rule that the line breaks',
    raw             STRING        COMMENT 'the line itself; bytes that are no UTF-8 stand as \xNN',
    quarantined_at  TIMESTAMP(3)  COMMENT 'when it was refused, UTC',
    corrected       STRING        COMMENT 'the text that was taken in its place, if not the line itself',
    replayed_at     TIMESTAMP(3)  COMMENT 'when it went into its table after all, UTC; null while it waits',
    PRIMARY KEY (source_file, line) NOT ENFORCED
) COMMENT 'Lines that are no event: kept to be replayed after a fix' WITH (
    'merge-engine' = 'partial-update',
    'partial-update.remove-record-on-delete' = 'true',
    'bucket' = '1',
    'changelog-producer' = 'lookup',
    'snapshot.num-retained.max' = '10000'
);
