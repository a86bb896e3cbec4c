"""Apache Kafka as a source of changes: topics are tables, keys are primary keys, offsets stand with the rows."""
