-- DIM: who and what the orders refer to. Soft deletes as in ODS.

CREATE DATABASE IF NOT EXISTS dim;

CREATE TABLE IF NOT EXISTS dim.city (
    id          STRING,
    name        STRING,
    province    STRING,
    event_time  TIMESTAMP(3)  COMMENT 'when the source changed the row, if it tells',
    op          STRING        COMMENT 'operation of the last change: c, u, d, or r for a row of a snapshot',
    deleted     BOOLEAN       COMMENT 'the source has no such row any more',
    PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'Cities' WITH (
    'merge-engine' = 'deduplicate',
    'bucket' = '1',
    'sequence.field' = 'event_time',
    'changelog-producer' = 'lookup',
    'changelog-producer.row-deduplicate' = 'true',
    'snapshot.num-retained.max' = '10000'
);

CREATE TABLE IF NOT EXISTS dim.team (
    id          STRING,
    name        STRING,
    city_id     STRING        COMMENT 'where the team works, a key of dim.city',
    event_time  TIMESTAMP(3)  COMMENT 'when the source changed the row, if it tells',
    op          STRING        COMMENT 'operation of the last change: c, u, d, or r for a row of a snapshot',
    deleted     BOOLEAN       COMMENT 'the source has no such row any more',
    PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'Sales teams' WITH (
    'merge-engine' = 'deduplicate',
    'bucket' = '1',
    'sequence.field' = 'event_time',
    'changelog-producer' = 'lookup',
    'changelog-producer.row-deduplicate' = 'true',
    'snapshot.num-retained.max' = '10000'
);

CREATE TABLE IF NOT EXISTS dim.agent (
    id          STRING,
    name        STRING,
    team_id     STRING        COMMENT 'the team that the agent is in now, a key of dim.team',
    hired_on    DATE,
    event_time  TIMESTAMP(3)  COMMENT 'when the source changed the row, if it tells',
    op          STRING        COMMENT 'operation of the last change: c, u, d, or r for a row of a snapshot',
    deleted     BOOLEAN       COMMENT 'the source has no such row any more',
    PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'Sales agents' WITH (
    'merge-engine' = 'deduplicate',
    'bucket' = '1',
    'sequence.field' = 'event_time',
    'changelog-producer' = 'lookup',
    'changelog-producer.row-deduplicate' = 'true',
    'snapshot.num-retained.max' = '10000'
);

CREATE TABLE IF NOT EXISTS dim.product (
    id             STRING,
    name           STRING,
    category       STRING,
    category_name  STRING,
    score_weight   DECIMAL(20, 4)  COMMENT 'points that one sold piece is worth',
    event_time     TIMESTAMP(3)    COMMENT 'when the source changed the row, if it tells',
    op             STRING          COMMENT 'operation of the last change: c, u, d, or r for a row of a snapshot',
    deleted        BOOLEAN         COMMENT 'the source has no such row any more',
    PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'Products' WITH (
    'merge-engine' = 'deduplicate',
    'bucket' = '1',
    'sequence.field' = 'event_time',
    'changelog-producer' = 'lookup',
    'changelog-producer.row-deduplicate' = 'true',
    'snapshot.num-retained.max' = '10000'
);

CREATE TABLE IF NOT EXISTS dim.sprint (
    id          STRING,
    name        STRING,
    start_date  DATE,
    end_date    DATE,
    event_time  TIMESTAMP(3)  COMMENT 'when the source changed the row, if it tells',
    op          STRING        COMMENT 'operation of the last change: c, u, d, or r for a row of a snapshot',
    deleted     BOOLEAN       COMMENT 'the source has no such row any more',
    PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'Sprints: campaign periods' WITH (
    'merge-engine' = 'deduplicate',
    'bucket' = '1',
    'sequence.field' = 'event_time',
    'changelog-producer' = 'lookup',
    'changelog-producer.row-deduplicate' = 'true',
    'snapshot.num-retained.max' = '10000'
);
