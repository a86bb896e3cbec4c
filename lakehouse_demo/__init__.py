"""The case study's business as a demo: seeded sources, a truth that does not come from the engine, and the main job.

``events`` and ``landing`` make the embedded stream, ``truth`` recomputes its figures from the raw files,
``sql_workload`` and ``sql_truth`` do the same on a real database server. None of them imports the engine
or Dagster. ``main`` takes either of them through the assets and compares.
"""
