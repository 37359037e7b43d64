"""Scanning: whether workers can read a table's files themselves, and which worker reads which part.

If a Delta snapshot is plain enough, the model's inputs do not pass through the JVM: Spark hands out
pieces of Parquet files, workers read them with pyarrow, and only the kept columns go back. The
table's log says which files hold a selection, which of their rows are deleted, and which names the
columns have in the files. This package declines every table that it does not fully understand; then
Spark reads.

`Selection` names the rows. `direct` plans how workers read them. If they are few, `read`, `first`,
`scattered` and `matching` read them in this process. `counted`, `tallied`, `held`, `nulls` and
`repeats` count. `reading` and `unread` explain the files that Spark cannot read.
"""

from lakescore.scanning.batching import skip_batch_size_check
from lakescore.scanning.counting import counted, held, nulls, repeats, tallied
from lakescore.scanning.dividing import spread
from lakescore.scanning.eligibility import partition_name
from lakescore.scanning.failures import FilesGone, FileUnreadable, reading, unread
from lakescore.scanning.fetching import first, matching, read, scattered
from lakescore.scanning.planning import Direct, as_selected, direct, named, shortened
from lakescore.scanning.selection import Selection

__all__ = [
    "Direct",
    "FileUnreadable",
    "FilesGone",
    "Selection",
    "as_selected",
    "counted",
    "direct",
    "first",
    "held",
    "matching",
    "named",
    "nulls",
    "partition_name",
    "read",
    "reading",
    "repeats",
    "scattered",
    "shortened",
    "skip_batch_size_check",
    "spread",
    "tallied",
    "unread",
]
