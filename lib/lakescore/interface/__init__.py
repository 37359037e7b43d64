"""The interface for Python: the functions of `import lakescore`, for notebooks and programs."""

from lakescore.interface.jobs import compare, score
from lakescore.interface.predicting import predict
from lakescore.interface.results import Comparison, Receipt

__all__ = ["Comparison", "Receipt", "compare", "predict", "score"]
