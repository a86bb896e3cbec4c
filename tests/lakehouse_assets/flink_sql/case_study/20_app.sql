-- Widened by a lookup join, and summed up.

CREATE TABLE dwd_order (
    v_date STRING, id STRING, product_id STRING, product_name STRING, category STRING, category_name STRING,
    PRIMARY KEY (v_date, id) NOT ENFORCED
) PARTITIONED BY (v_date) WITH ('bucket'='2');

CREATE TABLE agg_table (                        -- the short name last_non_null is used as it stands
    v_date STRING, agent_id STRING, score DECIMAL(20,4), update_time TIMESTAMP(3),
    PRIMARY KEY (v_date, agent_id) NOT ENFORCED
) PARTITIONED BY (v_date) WITH (
    'merge-engine'='aggregation', 'fields.score.aggregate-function'='sum', 'fields.update_time.aggregate-function'='last_non_null');

CREATE TABLE agent_day (
    v_date STRING, agent_id STRING, orders BIGINT, amount DECIMAL(20,4), refunds BIGINT,
    PRIMARY KEY (v_date, agent_id) NOT ENFORCED
) PARTITIONED BY (v_date) WITH ('merge-engine'='aggregation', 'fields.default-aggregate-function'='sum');

SELECT t1.id, t1.product_id, prd_info.name AS product_name, prd_info.category, prd_info.category_name
FROM (SELECT id, product_id, PROCTIME() AS proc_time FROM source_table) AS t1
LEFT JOIN dim_order_info FOR SYSTEM_TIME AS OF t1.proc_time AS prd_info ON t1.product_id = prd_info.id;

EXECUTE STATEMENT SET BEGIN
INSERT INTO dwd_order
SELECT /*+ LOOKUP('table'='prd_info', 'retry-predicate'='lookup_miss', 'retry-strategy'='fixed_delay') */
    t1.v_date, t1.id, t1.product_id, prd_info.name AS product_name, prd_info.category, UPPER(prd_info.category_name)
FROM (SELECT v_date, id, product_id, PROCTIME() AS proc_time FROM view_ods_changelog WHERE status <> 'deleted') AS t1
LEFT JOIN dim_order_info FOR SYSTEM_TIME AS OF t1.proc_time AS prd_info ON t1.product_id = prd_info.id;
INSERT INTO agg_table SELECT v_date, agent_id, amount, event_time FROM view_ods_changelog WHERE status = 'paid';
INSERT INTO agent_day
SELECT v_date, agent_id, COUNT(*), SUM(CASE WHEN status = 'paid' THEN amount ELSE 0 END), COUNT(*) FILTER (WHERE status = 'refunded')
FROM view_ods_changelog WHERE status IN ('paid', 'refunded') GROUP BY v_date, agent_id;
END;

INSERT INTO ods_member
SELECT v_date, id, member_id, agent_id, product_id, amount, status, event_time
FROM raw_table WHERE v_date BETWEEN '2024-01-01' AND '2024-01-01';     -- batch repair
