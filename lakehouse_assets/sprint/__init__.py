"""The case study's business: tables (``ddl/``), what is ingested, and the streams between the layers."""
