"""What runs in Spark's Python workers: Arrow batches or files' rows in, predictions or files out.

It imports nothing else of lakescore and is pickled by value, so executors need the model's own
requirements, and MLflow where the model is not a plain scikit-learn one, and never our package.
"""

from lakescore.executor.applying import WHY, Misshapen, Version, apply, attempt, loaded
from lakescore.executor.keys import BLOCKS, REPEATED, hashed, repeated
from lakescore.executor.predicting import Failing, predictor
from lakescore.executor.reading import Column, Only, Piece, Scan, footer, footers, rows_at_once
from lakescore.executor.tallying import Adding, Tally
from lakescore.executor.writing import FILES, Filed, Sink, Unwritten

__all__ = [
    "BLOCKS",
    "FILES",
    "REPEATED",
    "WHY",
    "Adding",
    "Column",
    "Failing",
    "Filed",
    "Misshapen",
    "Only",
    "Piece",
    "Scan",
    "Sink",
    "Tally",
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
]
