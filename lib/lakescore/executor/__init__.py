"""The code of Spark's Python workers: Arrow batches or rows of files in, predictions or files out.

It imports nothing else of lakescore and is pickled by value. So executors need only the model's
requirements, and MLflow if the model is not a plain scikit-learn one. They never need our package.
"""

from .applying import WHY, attempt, describe, predicted, release
from .counting import NULLS, nulls
from .delegating import answer, cpu_seconds
from .expecting import CHECKED, Checks, Expected, Rule, add_checks, check_rows
from .families import BYTES_GATHERED, Family, SegmentUnknown
from .fitting import SAYS, WIDTH, Misshapen, Truncated
from .footers import FOOTERS, RowGroup, footer, footers
from .histograms import (
    INFINITE,
    NAN,
    NEW,
    NO_VALUE,
    NULL,
    OTHER,
    Bins,
    CategoryBins,
    NumberBins,
    TimeBins,
)
from .isolating import ModelProcess, Starter, start
from .keeping import count, counted, is_used, shelf
from .keys import BLOCKS, REPEATED, hashed, repeated, row_hashes
from .launching import ModelFailed
from .loading import Description
from .memory import without_collector
from .nesting import innermost, leaf_types
from .predicting import Failing, Task, few, narrowed, predictor
from .profiling import MOST_GROUPS, PROFILE, SEPARATOR, ProfileSpec, profile, profile_rows
from .querying import Queried, query
from .reading import (
    Column,
    PartitionFilter,
    Piece,
    Scan,
    gathered,
    read_tasks,
)
from .reconciling import COUNTS, LEFT, reconcile, reconciled
from .results import alike
from .sealing import SEALED, opened, seal, sealed, unseal
from .sketching import MOST_VALUES, SKETCH, sketch, sketch_rows
from .sources import PACKAGE, program, read_sources
from .storing import LOCAL, Store
from .tallying import SAID, TaskTotals, listed_at_most
from .version import Version
from .writing import FILES, Decided, Misplaced, OutputColumn, Sink, Unwritten, filer

__all__ = [
    "BLOCKS",
    "BYTES_GATHERED",
    "CHECKED",
    "COUNTS",
    "FILES",
    "FOOTERS",
    "INFINITE",
    "LEFT",
    "LOCAL",
    "MOST_GROUPS",
    "MOST_VALUES",
    "NAN",
    "NEW",
    "NO_VALUE",
    "NULL",
    "NULLS",
    "OTHER",
    "PACKAGE",
    "PROFILE",
    "REPEATED",
    "SAID",
    "SAYS",
    "SEALED",
    "SEPARATOR",
    "SKETCH",
    "WHY",
    "WIDTH",
    "Bins",
    "CategoryBins",
    "Checks",
    "Column",
    "Decided",
    "Description",
    "Expected",
    "Failing",
    "Family",
    "Misplaced",
    "Misshapen",
    "ModelFailed",
    "ModelProcess",
    "NumberBins",
    "OutputColumn",
    "PartitionFilter",
    "Piece",
    "ProfileSpec",
    "Queried",
    "RowGroup",
    "Rule",
    "Scan",
    "SegmentUnknown",
    "Sink",
    "Starter",
    "Store",
    "Task",
    "TaskTotals",
    "TimeBins",
    "Truncated",
    "Unwritten",
    "Version",
    "add_checks",
    "alike",
    "answer",
    "attempt",
    "check_rows",
    "count",
    "counted",
    "cpu_seconds",
    "describe",
    "few",
    "filer",
    "footer",
    "footers",
    "gathered",
    "hashed",
    "innermost",
    "is_used",
    "leaf_types",
    "listed_at_most",
    "narrowed",
    "nulls",
    "opened",
    "predicted",
    "predictor",
    "profile",
    "profile_rows",
    "program",
    "query",
    "read_sources",
    "read_tasks",
    "reconcile",
    "reconciled",
    "release",
    "repeated",
    "row_hashes",
    "seal",
    "sealed",
    "shelf",
    "sketch",
    "sketch_rows",
    "start",
    "unseal",
    "without_collector",
]
