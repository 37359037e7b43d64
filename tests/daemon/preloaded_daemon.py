"""PySpark's daemon, which has imported what models need before it forks a worker.

Spark's own daemon imports nothing, so each of its workers imports MLflow for seconds, and at the
end of each task looks through all that it imported for garbage.
"""

import gc

import mlflow.pyfunc
import mlflow.sklearn  # noqa: F401
import pyspark.worker  # noqa: F401
import sklearn.ensemble  # noqa: F401
from pyspark.daemon import manager

if __name__ == "__main__":
    gc.collect()
    gc.freeze()  # what is imported is shared by all forks, as long as no collector touches it
    manager()
