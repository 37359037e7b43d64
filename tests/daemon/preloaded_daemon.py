"""PySpark's daemon, which has imported what models need before it forks a worker.

Spark's own daemon imports nothing, so each of its workers imports MLflow for seconds, and at the
end of each task looks through all that it imported for garbage.
"""

import gc
import importlib

from pyspark.daemon import manager

_NAMES = ("mlflow.pyfunc", "mlflow.sklearn", "pyspark.worker", "skops.io", "sklearn.ensemble")

if __name__ == "__main__":
    gc.disable()  # imports make hardly any garbage
    for name in _NAMES:
        importlib.import_module(name)
    gc.enable()
    gc.collect()
    gc.freeze()  # what is imported is shared by all forks, as long as no collector touches it
    manager()
