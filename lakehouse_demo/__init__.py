"""The case study's business as a demo: seeded sources and a truth that does not come from the engine.

``events`` and ``landing`` make the embedded stream, ``truth`` recomputes its figures from the raw files,
``mariadb`` and ``mariadb_workload`` do the same on a real database server. None of them imports the engine
or Dagster.
"""
