"""What runs in Spark's Python workers: Arrow batches or files' rows in, predictions or files out.

It imports nothing else of lakescore and is pickled by value, so executors need the model's own
requirements, and MLflow where the model is not a plain scikit-learn one, and never our package.
"""

from .applying import (
    WHY,
    Description,
    Version,
    answer,
    attempt,
    cpu_seconds,
    describe,
    predicted,
)
from .fitting import SAYS, Misshapen, Truncated
from .isolating import ModelFailed, program
from .keeping import counted
from .keys import BLOCKS, REPEATED, hashed, repeated
from .predicting import Failing, predictor
from .reading import Column, Only, Piece, Scan, footer, footers, rows_at_once
from .tallying import Adding, Tally
from .writing import FILES, Filed, Sink, Unwritten

__all__ = [
    "BLOCKS",
    "FILES",
    "REPEATED",
    "SAYS",
    "WHY",
    "Adding",
    "Column",
    "Description",
    "Failing",
    "Filed",
    "Misshapen",
    "ModelFailed",
    "Only",
    "Piece",
    "Scan",
    "Sink",
    "Tally",
    "Truncated",
    "Unwritten",
    "Version",
    "answer",
    "attempt",
    "counted",
    "cpu_seconds",
    "describe",
    "footer",
    "footers",
    "hashed",
    "predicted",
    "predictor",
    "program",
    "repeated",
    "rows_at_once",
]
