"""What runs in Spark's Python workers: Arrow batches or files' rows in, predictions or files out.

It imports nothing else of lakescore and is pickled by value, so executors need the model's own
requirements, and MLflow where the model is not a plain scikit-learn one, and never our package.
"""

from lakescore.executor.applying import WHY, Version, apply, attempt, loaded
from lakescore.executor.fitting import GIVEN, SAYS, Misshapen, Truncated
from lakescore.executor.keys import BLOCKS, REPEATED, hashed, repeated
from lakescore.executor.predicting import predictor
from lakescore.executor.reading import Column, Only, Piece, Scan, footer, footers, rows_at_once
from lakescore.executor.tallying import Adding, Tally
from lakescore.executor.wrapping import PREDICTED, wrapper
from lakescore.executor.writing import FILES, Filed, Sink, Unwritten

__all__ = [
    "BLOCKS",
    "FILES",
    "GIVEN",
    "PREDICTED",
    "REPEATED",
    "SAYS",
    "WHY",
    "Adding",
    "Column",
    "Filed",
    "Misshapen",
    "Only",
    "Piece",
    "Scan",
    "Sink",
    "Tally",
    "Truncated",
    "Unwritten",
    "Version",
    "apply",
    "attempt",
    "footer",
    "footers",
    "hashed",
    "loaded",
    "predictor",
    "repeated",
    "rows_at_once",
    "wrapper",
]
