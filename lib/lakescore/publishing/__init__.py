"""Publishing: one commit makes slices of predictions visible, and only once for the same inputs."""

from lakescore.publishing.counting import RowsLost, TooManyErrors
from lakescore.publishing.outcomes import SliceOutcome
from lakescore.publishing.output import PARTITIONED_BY
from lakescore.publishing.published import PublishedSlice, RunIdReused
from lakescore.publishing.publisher import Publisher

__all__ = [
    "PARTITIONED_BY",
    "PublishedSlice",
    "Publisher",
    "RowsLost",
    "RunIdReused",
    "SliceOutcome",
    "TooManyErrors",
]
