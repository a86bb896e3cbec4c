CREATE TABLE IF NOT EXISTS app.sprint_performance (
  v_date STRING COMMENT 'day of the orders, yyyy-mm-dd',
  sprint_id STRING,
  team_id STRING,
  agent_id STRING,
  orders BIGINT COMMENT 'paid orders',
  amount DECIMAL(20,4) COMMENT 'their amount',
  score DECIMAL(20,4) COMMENT 'their score',
  update_time TIMESTAMP(3) COMMENT 'event time of the change that was merged last',
  PRIMARY KEY (v_date, sprint_id, team_id, agent_id) NOT ENFORCED
) COMMENT 'Performance per sprint, day, team and agent; refunds and corrections are taken back'
PARTITIONED BY (v_date) WITH (
  'bucket' = '4',
  'merge-engine' = 'aggregation',
  'fields.orders.aggregate-function' = 'sum',
  'fields.amount.aggregate-function' = 'sum',
  'fields.score.aggregate-function' = 'sum',
  'fields.update_time.aggregate-function' = 'last_non_null',
  'fields.update_time.ignore-retract' = 'true',
  'changelog-producer' = 'lookup',
  'snapshot.num-retained.max' = '10000'
);
