CREATE TABLE IF NOT EXISTS dim.agent (
  id STRING,
  name STRING,
  team_id STRING,
  hired_on DATE,
  op STRING COMMENT 'c, u, d or r: what the source did last',
  deleted BOOLEAN COMMENT 'true once the source has deleted the row',
  event_time TIMESTAMP(3) COMMENT 'when the source changed the row',
  PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'Dimension: agents' WITH (
  'bucket' = '1',
  'merge-engine' = 'deduplicate',
  'sequence.field' = 'event_time',
  'changelog-producer' = 'lookup',
  'snapshot.num-retained.max' = '10000'
);
