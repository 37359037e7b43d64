"""Protocol: whether delta-rs reads and writes a table as Spark does, by the table's features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.logs.errors import NotEligible
from lakescore.wording import listed

if TYPE_CHECKING:
    from lakescore.logs.log import Log

STORED = "delta.columnMapping.physicalName"
_READS = frozenset(
    {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
"""Features of Delta's protocol that are read here as Spark reads them."""
_WRITES = frozenset(
    {"appendOnly", "deletionVectors", "invariants", "v2Checkpoint", "vacuumProtocolCheck"}
)
"""Features that demand nothing of a writer of new files, because no column here has an invariant or
another constraint."""
_OLD_PROTOCOL = 2
"""A version of the writer protocol; newer versions without named features demand more."""
_NAMED_PROTOCOL = 7
_PROPERTIES = frozenset(
    {
        "delta.checkpointInterval",
        "delta.checkpointPolicy",
        "delta.dataSkippingNumIndexedCols",
        "delta.dataSkippingStatsColumns",
        "delta.deletedFileRetentionDuration",
        "delta.enableDeletionVectors",
        "delta.logRetentionDuration",
        "delta.minReaderVersion",
        "delta.minWriterVersion",
    }
)
"""Properties of a table that demand nothing of a new file, or only things that are done here."""


def check_readable(log: Log) -> None:
    """Check that files are read here as Spark reads them.

    Raises:
        NotEligible: the files could be read differently.
    """
    unknown = sorted(set(log.reader_features) - _READS)
    if unknown:
        raise NotEligible(f"the table uses {listed(unknown)}")
    mode = log.properties.get("delta.columnMapping.mode", "none")
    if mode not in {"none", "name"}:
        raise NotEligible(f"the table maps its columns by {mode}")


def check_writable(log: Log) -> None:
    """Check that the table demands nothing of new files that is not done here.

    Raises:
        NotEligible: the table demands more.
    """
    unknown = sorted(set(log.writer_features) - _WRITES)
    unknown += sorted(set(log.properties) - _PROPERTIES)
    if unknown:
        raise NotEligible(f"the table uses {listed(unknown)}")
    version = log.table.protocol().min_writer_version
    if _OLD_PROTOCOL < version < _NAMED_PROTOCOL:
        raise NotEligible(f"the table's minWriterVersion is {version}")
