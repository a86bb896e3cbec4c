CREATE TABLE IF NOT EXISTS ods.member_order (
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
  op STRING COMMENT 'c, u, d or r: what the source did last',
  deleted BOOLEAN COMMENT 'true once the source has deleted the row',
  event_time TIMESTAMP(3) COMMENT 'when the source changed the row',
  PRIMARY KEY (v_date, id) NOT ENFORCED
) COMMENT 'Member orders as the source has them; the newest event wins, however late it lands'
PARTITIONED BY (v_date) WITH (
  'bucket' = '4',
  'merge-engine' = 'deduplicate',
  'sequence.field' = 'event_time',
  'changelog-producer' = 'lookup',
  'snapshot.num-retained.max' = '10000'
);
