CREATE TABLE IF NOT EXISTS ods.member (
  id STRING,
  name STRING,
  city_id STRING,
  phone STRING,
  op STRING COMMENT 'c, u, d or r: what the source did last',
  deleted BOOLEAN COMMENT 'true once the source has deleted the row',
  event_time TIMESTAMP(3) COMMENT 'when the source changed the row',
  PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'Members as the source has them; the newest event wins, however late it lands' WITH (
  'bucket' = '4',
  'merge-engine' = 'deduplicate',
  'sequence.field' = 'event_time',
  'changelog-producer' = 'lookup',
  'snapshot.num-retained.max' = '10000'
);
