"""Engines: the ways to apply model versions to rows. All of them give the same values.

`spark_udf` is MLflow's own function: the reference, for every flavour. `arrow` passes Arrow batches
to the model, loads it once a worker process, and applies several versions in one pass. It serves a
request only if a probe of real rows gives equal values.
"""
