-- DWD: orders widened by what they refer to, and who ordered what in a month.

CREATE DATABASE IF NOT EXISTS dwd;

CREATE TABLE IF NOT EXISTS dwd.member_order (
    v_date         STRING          COMMENT 'day of the order, yyyy-mm-dd',
    id             STRING          COMMENT 'order',
    member_id      STRING,
    city_id        STRING          COMMENT 'where the member lives now',
    city_name      STRING,
    agent_id       STRING,
    agent_name     STRING,
    team_id        STRING          COMMENT 'the team that the agent is in now',
    team_name      STRING,
    product_id     STRING,
    product_name   STRING,
    category       STRING,
    category_name  STRING,
    sprint_id      STRING,
    sprint_name    STRING,
    order_type     STRING          COMMENT 'new or renew',
    quantity       INT,
    amount         DECIMAL(20, 4),
    score          DECIMAL(20, 4)  COMMENT 'pieces by the weight that the product has now',
    status         STRING          COMMENT 'paid or refunded',
    complete       BOOLEAN         COMMENT 'agent, product and member are known; else the row waits for them',
    event_time     TIMESTAMP(3)    COMMENT 'when the source changed the order',
    PRIMARY KEY (v_date, id) NOT ENFORCED
) COMMENT 'Orders with their agent, team, product, member and city' PARTITIONED BY (v_date) WITH (
    'merge-engine' = 'deduplicate',
    'bucket' = '4',
    'changelog-producer' = 'lookup',
    'changelog-producer.row-deduplicate' = 'true',
    'changelog-file.compression' = 'snappy',
    'changelog-file.stats-mode' = 'none',
    'file.compression.per.level' = '0:snappy',
    'write-buffer-size' = '512 MB',  -- so that a bucket of these wide rows is compacted in memory
    'snapshot.num-retained.max' = '10000'
);

CREATE TABLE IF NOT EXISTS dwd.member_month (
    v_month     STRING  COMMENT 'month of the orders, yyyy-mm',
    city_id     STRING,
    product_id  STRING,
    order_type  STRING  COMMENT 'new or renew',
    member_id   STRING,
    orders      BIGINT  COMMENT 'paid orders',
    PRIMARY KEY (v_month, city_id, product_id, order_type, member_id) NOT ENFORCED
) COMMENT 'Paid orders of each member in a month' PARTITIONED BY (v_month) WITH (
    'merge-engine' = 'aggregation',
    'fields.orders.aggregate-function' = 'sum',
    'bucket' = '4',
    'changelog-producer' = 'lookup',
    'changelog-producer.row-deduplicate' = 'true',
    'changelog-file.compression' = 'snappy',
    'changelog-file.stats-mode' = 'none',
    'file.compression.per.level' = '0:snappy',
    'snapshot.num-retained.max' = '10000'
);
