"""Flink and Paimon SQL onto the catalog."""
