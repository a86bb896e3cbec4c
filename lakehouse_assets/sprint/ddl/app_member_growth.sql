CREATE TABLE IF NOT EXISTS app.member_growth (
  v_month STRING COMMENT 'month of the orders, yyyy-mm',
  city_id STRING,
  product_id STRING,
  new_members BIGINT COMMENT 'distinct members with a paid new order',
  renewed_members BIGINT COMMENT 'distinct members with a paid renewal',
  PRIMARY KEY (v_month, city_id, product_id) NOT ENFORCED
) COMMENT 'New and renewed members of the month, by city and product'
PARTITIONED BY (v_month) WITH (
  'bucket' = '1',
  'merge-engine' = 'aggregation',
  'fields.new_members.aggregate-function' = 'sum',
  'fields.renewed_members.aggregate-function' = 'sum',
  'changelog-producer' = 'lookup',
  'snapshot.num-retained.max' = '10000'
);
