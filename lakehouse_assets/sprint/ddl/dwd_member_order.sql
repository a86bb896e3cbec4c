CREATE TABLE IF NOT EXISTS dwd.member_order (
  v_date STRING COMMENT 'day of the order, yyyy-mm-dd',
  id STRING,
  member_id STRING,
  agent_id STRING,
  product_id STRING,
  sprint_id STRING,
  order_type STRING COMMENT 'new or renew',
  quantity INT,
  amount DECIMAL(20,4),
  status STRING COMMENT 'paid or refunded',
  agent_name STRING,
  team_id STRING COMMENT 'team of the agent',
  team_name STRING,
  product_name STRING,
  category STRING,
  category_name STRING,
  score DECIMAL(20,4) COMMENT 'score weight of the product times quantity',
  sprint_name STRING,
  city_id STRING COMMENT 'city where the member lives',
  city_name STRING,
  event_time TIMESTAMP(3) COMMENT 'when the source changed the order',
  PRIMARY KEY (v_date, id) NOT ENFORCED
) COMMENT 'Member orders in event-time order, widened by agent, team, product, sprint, member and city'
PARTITIONED BY (v_date) WITH (
  'bucket' = '4',
  'merge-engine' = 'deduplicate',
  'sequence.field' = 'event_time',
  'changelog-producer' = 'lookup',
  'snapshot.num-retained.max' = '10000'
);
