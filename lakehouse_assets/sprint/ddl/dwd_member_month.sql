CREATE TABLE IF NOT EXISTS dwd.member_month (
  v_month STRING COMMENT 'month of the orders, yyyy-mm',
  city_id STRING,
  product_id STRING,
  order_type STRING COMMENT 'new or renew',
  member_id STRING,
  orders BIGINT COMMENT 'paid orders of the member',
  PRIMARY KEY (v_month, city_id, product_id, order_type, member_id) NOT ENFORCED
) COMMENT 'Paid orders by member and month: a member counts while this is above zero'
PARTITIONED BY (v_month) WITH (
  'bucket' = '4',
  'merge-engine' = 'aggregation',
  'fields.orders.aggregate-function' = 'sum',
  'changelog-producer' = 'lookup',
  'snapshot.num-retained.max' = '10000'
);
