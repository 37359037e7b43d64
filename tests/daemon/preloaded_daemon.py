"""PySpark's daemon, which has imported what models need before it forks a worker.

Spark's own daemon imports nothing, so each of its workers imports MLflow for seconds, and at the
end of each task looks through all that it imported for garbage.
"""

import forking

if __name__ == "__main__":
    forking.run("mlflow.pyfunc", "mlflow.sklearn", "sklearn.ensemble")
