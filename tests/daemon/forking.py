"""Forking PySpark's workers from a daemon that has imported their modules.

Spark has its Python processes import PySpark from a zip, where Python keeps no compiled code: each
process compiles PySpark for seconds. Here they import the installed PySpark, which is the same.
"""

import gc
import importlib
import sys


def run(*names: str) -> None:
    """Run PySpark's daemon, whose workers have imported the modules *names*."""
    sys.path.sort(key=lambda folder: folder.endswith(".zip"))  # zips last, the others as they were
    gc.disable()  # imports make hardly any garbage
    for name in ("pyspark.daemon", "pyspark.worker", *names):
        importlib.import_module(name)
    gc.enable()
    gc.collect()
    gc.freeze()  # what is imported is shared by all forks, as long as no collector touches it
    sys.modules["pyspark.daemon"].manager()
