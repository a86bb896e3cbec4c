"""A primary-key table engine on Polars that reads and writes Apache Paimon's table format."""
