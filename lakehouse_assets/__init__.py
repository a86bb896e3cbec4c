"""The lakehouse as Dagster assets: layers, streams, sensors, repair and maintenance."""
