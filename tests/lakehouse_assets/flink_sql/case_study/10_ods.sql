-- Members' orders as they come, late ones too.

CREATE TABLE source_table (
    v_date STRING, id STRING, member_id BIGINT, agent_id STRING, product_id STRING, amount DECIMAL(20,4), status STRING, event_time TIMESTAMP,
    proc_time AS PROCTIME(),
    WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND,
    PRIMARY KEY (v_date, id) NOT ENFORCED
) PARTITIONED BY (v_date) WITH ('bucket'='2');

CREATE TABLE raw_table (
    v_date STRING, id STRING, member_id BIGINT, agent_id STRING, product_id STRING, amount DECIMAL(20,4), status STRING, event_time TIMESTAMP,
    PRIMARY KEY (v_date, id) NOT ENFORCED
) PARTITIONED BY (v_date) WITH ('bucket'='2');

CREATE TABLE dim_order_info (
    id STRING, name STRING, category STRING, category_name STRING, PRIMARY KEY (id) NOT ENFORCED
) WITH ('bucket'='1');

CREATE TABLE ods_member (                       -- deduplication with late events
    v_date STRING, id STRING, member_id BIGINT, agent_id STRING, product_id STRING, amount DECIMAL(20,4), status STRING, event_time TIMESTAMP,
    PRIMARY KEY (v_date, id) NOT ENFORCED
) PARTITIONED BY (v_date) WITH (
    'merge-engine'='deduplicate', 'bucket'='4', 'sequence.field'='event_time', 'deletion-vectors.enabled'='true',
    'async-file-write'='true', 'sort-spill-threshold'='10', 'lookup-wait'='false', 'snapshot.num-retained.max'='10000');

INSERT INTO ods_member SELECT v_date, id, member_id, agent_id, product_id, amount, status, event_time FROM source_table;

CREATE VIEW view_ods_changelog AS SELECT * FROM ods_member;      -- downstream jobs read the view as a stream
