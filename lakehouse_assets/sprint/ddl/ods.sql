-- ODS: the changes of the source as they land, one row a key, the newest change wins however late it arrives.
--
-- A deleted source row stays with deleted = true: a tombstone would be dropped by compaction, and an older
-- event that lands afterwards would bring the row back.
--
-- Members keep a changelog: orders are widened by them, and must be told whose rows have changed. Orders keep none: who reads
-- them wants their newest state only, so what is in the table is not looked up once more for each of them.

CREATE DATABASE IF NOT EXISTS ods;

CREATE TABLE IF NOT EXISTS ods.member (
    id          STRING        COMMENT 'member',
    name        STRING,
    city_id     STRING        COMMENT 'where the member lives, a key of dim.city',
    phone       STRING,
    event_time  TIMESTAMP(3)  COMMENT 'when the source changed the row',
    op          STRING        COMMENT 'operation of the last change: c, u, d, or r for a row of a snapshot',
    deleted     BOOLEAN       COMMENT 'the source has no such row any more',
    PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'Members, as the source has them' WITH (
    'merge-engine' = 'deduplicate',
    'bucket' = '4',
    'sequence.field' = 'event_time',
    'changelog-producer' = 'lookup',
    'changelog-producer.row-deduplicate' = 'true',
    'changelog-file.compression' = 'snappy',
    'changelog-file.stats-mode' = 'none',
    'file.compression.per.level' = '0:snappy',
    'snapshot.num-retained.max' = '10000'
);

CREATE TABLE IF NOT EXISTS ods.member_order (
    v_date      STRING          COMMENT 'day of the order, yyyy-mm-dd; never changes',
    id          STRING          COMMENT 'order',
    member_id   STRING          COMMENT 'who ordered, a key of ods.member',
    agent_id    STRING          COMMENT 'who sold, a key of dim.agent',
    product_id  STRING          COMMENT 'what was sold, a key of dim.product',
    sprint_id   STRING          COMMENT 'the campaign, a key of dim.sprint',
    order_type  STRING          COMMENT 'new or renew',
    quantity    INT,
    amount      DECIMAL(20, 4),
    status      STRING          COMMENT 'paid or refunded',
    event_time  TIMESTAMP(3)    COMMENT 'when the source changed the row',
    op          STRING          COMMENT 'operation of the last change: c, u, d, or r for a row of a snapshot',
    deleted     BOOLEAN         COMMENT 'the source has no such row any more',
    PRIMARY KEY (v_date, id) NOT ENFORCED
) COMMENT 'Orders of members, as the source has them' PARTITIONED BY (v_date) WITH (
    'merge-engine' = 'deduplicate',
    'bucket' = '4',
    'sequence.field' = 'event_time',
    'file.compression.per.level' = '0:snappy',
    'num-sorted-run.compaction-trigger' = '10',  -- written far more often than read
    'snapshot.num-retained.max' = '10000'
);
