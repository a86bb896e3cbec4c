"""The case study's business: sales sprints and members. Table definitions are in ``ddl/``."""
