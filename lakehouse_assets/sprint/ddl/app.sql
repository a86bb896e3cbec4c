-- APP: the figures that people look at. Refunds, corrections and deletes upstream are taken away again.

CREATE DATABASE IF NOT EXISTS app;

CREATE TABLE IF NOT EXISTS app.sprint_performance (
    v_date       STRING          COMMENT 'day of the orders, yyyy-mm-dd',
    sprint_id    STRING,
    team_id      STRING,
    agent_id     STRING,
    orders       BIGINT          COMMENT 'paid orders',
    amount       DECIMAL(20, 4)  COMMENT 'what was paid',
    score        DECIMAL(20, 4)  COMMENT 'pieces sold, each by the weight of its product',
    update_time  TIMESTAMP(3)    COMMENT 'event time of the last order that came in',
    PRIMARY KEY (v_date, sprint_id, team_id, agent_id) NOT ENFORCED
) COMMENT 'Performance of agents and teams in sprints, day by day' PARTITIONED BY (v_date) WITH (
    'merge-engine' = 'aggregation',
    'fields.orders.aggregate-function' = 'sum',
    'fields.amount.aggregate-function' = 'sum',
    'fields.score.aggregate-function' = 'sum',
    'fields.update_time.aggregate-function' = 'last_non_null',
    'fields.update_time.ignore-retract' = 'true',
    'bucket' = '4',
    'changelog-producer' = 'lookup',
    'snapshot.num-retained.max' = '10000'
);

CREATE TABLE IF NOT EXISTS app.member_growth (
    v_month          STRING  COMMENT 'month of the orders, yyyy-mm',
    city_id          STRING,
    product_id       STRING,
    new_members      BIGINT  COMMENT 'members with a paid order of type new',
    renewed_members  BIGINT  COMMENT 'members with a paid order of type renew',
    PRIMARY KEY (v_month, city_id, product_id) NOT ENFORCED
) COMMENT 'New and renewed members of the month, by city and product' WITH (
    'merge-engine' = 'aggregation',
    'fields.new_members.aggregate-function' = 'sum',
    'fields.renewed_members.aggregate-function' = 'sum',
    'bucket' = '4',
    'changelog-producer' = 'lookup',
    'snapshot.num-retained.max' = '10000'
);
